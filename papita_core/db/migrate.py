"""Brings a database to the present schema.

The Alembic history lies in `migrations/papita`; several processes may start at once, the first one
migrates and the others wait for it.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from papita_core.db.engine import Database

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations" / "papita"
LOCK = 0x70617069  # any number that other programs do not use as advisory lock


def migrate(database: Database, revision: str = "head") -> None:
    """Upgrades to `revision`. Does nothing where the schema is there already."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with database.engine.connect() as connection:
        connection = connection.execution_options(writing=True)
        with connection.begin():
            if not database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
