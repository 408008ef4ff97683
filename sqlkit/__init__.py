"""What both services do with SQLAlchemy where speed matters: statements that are compiled once and
sent together, over connections that are asked now and then whether they are still there.
"""

from sqlkit.connections import ask_idle_connections
from sqlkit.prepared import Prepared, together

__all__ = ["Prepared", "ask_idle_connections", "together"]
