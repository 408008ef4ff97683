"""What both services do with SQLAlchemy where speed matters: statements that are compiled once and
sent together, one for many rows, over connections that are asked now and then whether they are
still there.
"""

from sqlkit.connections import ask_idle_connections
from sqlkit.direct import Change, Direct
from sqlkit.prepared import Many, Prepared, raise_as_sqlalchemy, together

__all__ = [
    "Change",
    "Direct",
    "Many",
    "Prepared",
    "ask_idle_connections",
    "raise_as_sqlalchemy",
    "together",
]
