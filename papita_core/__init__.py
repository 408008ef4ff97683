"""Users, the vault, grants and the audit log of Papita, and the REST API over them.

Knows nothing of Streamlit, of the chat engine or of how the portal is served.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("papita")
except PackageNotFoundError:  # run from a checkout, which is the usual way
    __version__ = "0.1.0"
