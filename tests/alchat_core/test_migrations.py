"""The Alembic history makes what the tables say, on both engines, and keeps what was there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from alchat_core.db.migrate import SCRIPTS, migrate
from alchat_core.db.tables import metadata
from tests.papita_core.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    with ExitStack() as stack:
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            yield stack.enter_context(server.database())
        else:
            yield f"sqlite:///{tmp_path}/deep/alchat.db"


def move(url: str, revision: str, *, down: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    engine = create_engine(url)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)
    engine.dispose()


def _ours(_object: object, name: str | None, *_: object) -> bool:
    """FTS5 keeps tables of its own."""
    return not str(name).startswith("search_index")


def test_the_migrations_make_what_the_tables_say(url: str) -> None:
    migrate(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        options = {"compare_type": True, "include_object": _ours}
        context = MigrationContext.configure(connection, opts=options)
        drift = compare_metadata(context, metadata)
    if engine.dialect.name == "sqlite":
        drift = [one for one in drift if "ix_search_texts_words" not in str(one)]
    assert drift == []
    engine.dispose()


def test_one_can_go_back_and_forth(url: str) -> None:
    migrate(url)
    move(url, "base", down=True)
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate(url)
    engine.dispose()
