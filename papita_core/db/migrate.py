"""Brings a database to the present schema.

The Alembic history lies in `migrations/papita`; several processes may start at once, the first one
migrates and the others wait for it.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from papita_core.db.engine import Database

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations" / "papita"


def migrate(database: Database, revision: str = "head") -> None:
    """Upgrades to `revision`. Does nothing where the schema is there already."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with database.engine.connect() as connection:
        connection = connection.execution_options(writing=True)
        with connection.begin():
            database.one_at_a_time(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
