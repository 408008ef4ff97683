"""Brings a database to the present schema.

The Alembic history lies in `migrations/papita`; several processes may start at once, the first one
migrates and the others wait for it.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from papita_core.db.engine import Database

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations" / "papita"


def migrate(database: Database, revision: str = "head") -> None:
    """Upgrades to `revision`. Does nothing where the schema is there already."""
    config = _config()
    with database.engine.connect() as connection:
        connection = connection.execution_options(writing=True)
        with connection.begin():
            database.one_at_a_time(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, revision)


def revisions() -> tuple[str, ...]:
    """Every revision that this version knows, the newest first."""
    scripts = ScriptDirectory.from_config(_config())
    return tuple(script.revision for script in scripts.walk_revisions())


def revision_of(database: Database) -> str | None:
    """The revision of a database as it is; None where it has no tables of Papita."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return config
