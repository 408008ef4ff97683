"""The Alembic history makes exactly the tables that the models describe."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

import papita_core.app
from papita_core.db import Base, Database
from papita_core.db.migrate import migrate
from tests.papita_core.house import House, at_once, both_engines


@pytest.fixture
def database(empty_house: House) -> Database:
    assert papita_core.app  # every table is in the metadata
    return Database(empty_house.settings().database)


@both_engines
def test_models_and_migrations_do_not_drift(database: Database):
    migrate(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


@both_engines
def test_migrating_twice_or_at_once_is_harmless(database: Database, empty_house: House):
    others = [Database(empty_house.settings().database) for _ in range(3)]
    assert at_once([lambda d=d: migrate(d) for d in others]) == [None] * 3
    migrate(database)
    tables = set(inspect(database.engine).get_table_names())
    assert tables == {*Base.metadata.tables, "alembic_version"}
    for opened in (database, *others):
        opened.close()


@both_engines
def test_a_migration_that_fails_leaves_nothing_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    from alembic import op

    def fail(name: str, *arguments: object, **options: object) -> None:
        raise LookupError(name)

    monkeypatch.setattr(op, "create_index", fail)
    with pytest.raises(LookupError):
        migrate(database)
    assert inspect(database.engine).get_table_names() == []
    monkeypatch.undo()
    migrate(database)
    database.close()


def test_every_time_is_kept_with_its_zone():
    naive = [
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if "DateTime" in type(column.type).__name__ and type(column.type).__name__ != "UtcDateTime"
    ]
    assert naive == []
