"""The database: one engine, and units of work that commit once or not at all."""

from papita_core.db.base import AnyRow, Base, UtcDateTime, new_id, table_of
from papita_core.db.engine import Database, NameTaken
from papita_core.db.lists import among
from sqlkit import Prepared, Within

__all__ = [
    "AnyRow",
    "Base",
    "Database",
    "NameTaken",
    "Prepared",
    "UtcDateTime",
    "Within",
    "among",
    "new_id",
    "table_of",
]
