"""What both services do with SQLAlchemy where speed matters: statements that are compiled once, one
for many rows, and on PostgreSQL sent together over connections of their own.
"""

from sqlkit.connections import ask_idle_connections
from sqlkit.direct import Change, Direct
from sqlkit.errors import raise_as_sqlalchemy
from sqlkit.prepared import Many, Prepared, Within
from sqlkit.transactions import Transaction, Transactions

__all__ = [
    "Change",
    "Direct",
    "Many",
    "Prepared",
    "Transaction",
    "Transactions",
    "Within",
    "ask_idle_connections",
    "raise_as_sqlalchemy",
]
