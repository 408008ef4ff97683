"""Prepared statements do what SQLAlchemy does with them, on each engine and its drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    ForeignKey,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    Text,
    bindparam,
    create_engine,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from sqlkit import Direct, Many, Prepared, Transactions, Within, ask_idle_connections, connections
from tests.papita_core.postgres import Postgres

metadata = MetaData()
potatoes = Table(
    "potatoes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(20), nullable=False),
    Column("colour", String(20), nullable=False, server_default="yellow"),
    Column("notes", JSON(none_as_null=True)),
)
# On PostgreSQL alone: rows of both tables are numbered as they come.
numbered = MetaData()
come = Sequence("come", metadata=numbered)
heaps = Table(
    "heaps",
    numbered,
    Column("id", Integer, primary_key=True),
    Column("came", Integer, server_default=come.next_value()),
)
beds = Table(
    "beds",
    numbered,
    Column("id", Integer, primary_key=True),
    Column("heap", ForeignKey(heaps.c.id)),
    Column("came", Integer, server_default=come.next_value()),
)
commits = Table(
    "commits", numbered, Column("heap", Integer, primary_key=True), Column("waits", String(20))
)
# Runs when a transaction ends.
NOTES_COMMITS = """
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO commits VALUES (NEW.id, current_setting('synchronous_commit'));
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER noted AFTER INSERT ON heaps
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
"""
ADD = Prepared(insert(potatoes), ("id", "name", "notes"))
RENAME = Prepared(
    update(potatoes).where(potatoes.c.id == bindparam("which")).values(name=bindparam("new_name"))
)
BY_ID = Prepared(select(potatoes).where(potatoes.c.id == bindparam("which")))
NAMES = Prepared(select(potatoes.c.name).order_by(potatoes.c.id))

ADD_MANY = Many.insert(potatoes, ("id", "name", "notes"))
RENAME_MANY = Many(
    lambda given: update(potatoes).where(potatoes.c.id == given.which).values(name=given.new_name),
    {"which": Integer(), "new_name": String()},
)
FIND_MANY = Many(
    lambda given: (
        select(given.place.label("place"), potatoes.c.name, potatoes.c.notes)
        .where(potatoes.c.id == given.which)
        .order_by("place")
    ),
    {"place": Integer(), "which": Integer()},
)

HEAP_MANY = Many.insert(heaps, ("id",))
BED_MANY = Many.insert(beds, ("id", "heap"))
NUMBERS = Prepared(
    select(heaps.c.id, heaps.c.came.label("heap_came"), beds.c.came.label("bed_came"))
    .join(beds, beds.c.heap == heaps.c.id)
    .order_by(beds.c.id)
)
COMMITS = Prepared(select(commits.c.heap, commits.c.waits).order_by(commits.c.heap))

Unit = Callable[[Any], Any]
Run = Callable[[Unit], Any]


def _runs(kind: str, folder: Any, postgres: Postgres) -> Iterator[Run]:
    """Runs a unit in a transaction of its own, over one kind of engine or driver."""
    if kind == "sqlite":
        engine = create_engine(f"sqlite:///{folder}/potatoes.db")
        metadata.create_all(engine)
        yield lambda unit: _within(engine, unit)
        engine.dispose()
        return
    with postgres.database() as url:
        engine = create_engine(url)
        metadata.create_all(engine)
        made = Transactions(engine.url, engine.dialect)
        yield {
            "psycopg": lambda unit: _within(engine, unit),
            "psycopg, asynchronous": lambda unit: asyncio.run(_within_async(url, unit)),
            "at once": lambda unit: _within_at_once(made, unit),
        }[kind]
        made.close()
        engine.dispose()


@pytest.fixture(params=["sqlite", "psycopg", "psycopg, asynchronous"])
def run(request: pytest.FixtureRequest, tmp_path: Any, postgres: Postgres) -> Iterator[Run]:
    yield from _runs(request.param, tmp_path, postgres)


@pytest.fixture(params=["sqlite", "psycopg", "at once"])
def at_once(request: pytest.FixtureRequest, tmp_path: Any, postgres: Postgres) -> Iterator[Run]:
    """Over `Transactions`, and what acts alike."""
    yield from _runs(request.param, tmp_path, postgres)


def _within(engine: Any, unit: Unit) -> Any:
    with engine.begin() as connection:
        return unit(connection)


def _within_at_once(transactions: Transactions, unit: Unit) -> Any:
    with transactions.begin() as transaction:
        return unit(transaction)


async def _within_async(url: str, unit: Unit) -> Any:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(unit)
    finally:
        await engine.dispose()


def add(connection: Within, *names: str, first: int = 1) -> int:
    rows = [
        {"id": number, "name": name, "notes": {"of": [name]}}
        for number, name in enumerate(names, first)
    ]
    return ADD.run(connection, *rows)


def test_values_are_converted_and_left_out_columns_get_their_default(run: Run) -> None:
    run(lambda connection: add(connection, "Linda"))
    row = run(lambda connection: BY_ID.first(connection, {"which": 1}))
    assert (row.id, row.name, row.colour, row.notes) == (1, "Linda", "yellow", {"of": ["Linda"]})
    assert run(lambda connection: BY_ID.first(connection, {"which": 2})) is None
    run(lambda connection: ADD.run(connection, {"id": 2, "name": "Sieglinde", "notes": None}))
    assert run(lambda connection: BY_ID.first(connection, {"which": 2})).notes is None


def test_a_statement_says_how_many_rows_it_reached(run: Run) -> None:
    assert run(lambda connection: add(connection, "Linda", "Laura", "Annabelle")) == 3
    assert run(lambda c: RENAME.run(c, {"which": 2, "new_name": "Nicola"})) == 1
    assert run(lambda c: RENAME.run(c, {"which": 9, "new_name": "Nicola"})) == 0
    names = run(lambda connection: [row.name for row in NAMES.rows(connection, {})])
    assert names == ["Linda", "Nicola", "Annabelle"]


def test_an_error_is_the_one_that_sqlalchemy_raises_and_undoes_all(run: Run) -> None:
    def twice(connection: Connection) -> None:
        add(connection, "Linda")
        add(connection, "Laura")

    with pytest.raises(IntegrityError) as raised:
        run(twice)
    assert "Laura" not in str(raised.value)
    assert run(lambda connection: NAMES.rows(connection, {})) == []


def test_what_is_sent_at_once_is_there_afterwards(at_once: Run) -> None:
    def unit(within: Within) -> None:
        add(within, "Linda", "Laura")
        RENAME.run(within, {"which": 1, "new_name": "Nicola"})
        add(within, "Annabelle", first=3)

    at_once(unit)
    # Another transaction sees it, and so does the next one over the same connection.
    for _ in range(2):
        rows = at_once(lambda within: NAMES.rows(within, {}))
        assert [row.name for row in rows] == ["Nicola", "Laura", "Annabelle"]


def test_answers_to_what_is_sent_at_once_are_read_later(at_once: Run) -> None:
    def unit(within: Within) -> list[list[str]]:
        add(within, "Linda", "Laura")
        asked = [NAMES.ask(within, {}), BY_ID.ask(within, {"which": 2})]
        found = [[row.name for row in rows()] for rows in asked]
        RENAME.run(within, {"which": 2, "new_name": "Nicola"})
        return [*found, [row.name for row in NAMES.ask(within, {})()]]

    assert at_once(unit) == [["Linda", "Laura"], ["Laura"], ["Linda", "Nicola"]]


def test_values_are_converted_in_a_transaction_at_once(at_once: Run) -> None:
    at_once(lambda within: ADD.run(within, *NEW))
    for which, new in enumerate(NEW, 1):
        row = at_once(lambda within, which=which: BY_ID.first(within, {"which": which}))
        assert (row.name, row.notes, row.colour) == (new["name"], new["notes"], "yellow")
    # A number of another width is another type for the driver.
    assert at_once(lambda within: BY_ID.first(within, {"which": 2**20})) is None
    odd = Prepared(select(literal("100 %").label("share"), bindparam("what").label("what")))
    assert at_once(lambda within: odd.rows(within, {"what": "5 %(x)s"})) == [("100 %", "5 %(x)s")]
    assert at_once(lambda within: odd.rows(within, {"what": None})) == [("100 %", None)]


def test_more_than_the_socket_takes_is_sent_and_read(at_once: Run) -> None:
    what = Prepared(select(bindparam("what", type_=Text).label("what")))
    long = "potato" * 1_000_000

    def unit(within: Within) -> list[str]:
        asked = [what.ask(within, {"what": f"{place}{long}"}) for place in range(4)]
        return [rows()[0].what for rows in asked]

    assert at_once(unit) == [f"{place}{long}" for place in range(4)]


@pytest.mark.parametrize("last", [True, False])
def test_an_error_in_what_is_sent_at_once_undoes_all(at_once: Run, last: bool) -> None:
    def unit(within: Within) -> None:
        add(within, "Linda")
        add(within, "Laura")
        if not last:
            NAMES.ask(within, {})()

    for _ in range(2):
        with pytest.raises(IntegrityError) as raised:
            at_once(unit)
        assert "Laura" not in str(raised.value)
        assert at_once(lambda within: NAMES.rows(within, {})) == []


def test_an_exception_in_a_transaction_at_once_undoes_all_and_comes_through(at_once: Run) -> None:
    def unit(within: Within) -> None:
        add(within, "Linda")
        NAMES.rows(within, {})
        raise LookupError

    with pytest.raises(LookupError):
        at_once(unit)
    assert at_once(lambda within: NAMES.rows(within, {})) == []


def test_a_transaction_at_once_replaces_what_the_server_has_closed(postgres: Postgres) -> None:
    with postgres.database() as url:
        engine = create_engine(url)
        made = Transactions(engine.url, engine.dialect)
        which = Prepared(select(func.pg_backend_pid().label("process")))
        with made.begin() as transaction:
            process = which.rows(transaction, {})[0].process

        def close_it() -> None:
            with engine.begin() as connection:
                connection.scalar(select(func.pg_terminate_backend(process, 5000)))

        close_it()
        with made.begin() as transaction:
            process = which.rows(transaction, {})[0].process

        def lose_it() -> None:
            with made.begin() as transaction:
                close_it()
                which.rows(transaction, {})

        with pytest.raises(OperationalError) as raised:
            lose_it()
        assert raised.value.connection_invalidated
        with made.begin() as transaction:
            assert which.rows(transaction, {})[0].process != process
        made.close()
        engine.dispose()


def test_a_session_will_do_as_well(run: Run) -> None:
    def unit(connection: Connection) -> list[str]:
        with Session(bind=connection) as session:
            ADD.run(session, {"id": 1, "name": "Linda", "notes": None})
            return [row.name for row in NAMES.rows(session, {})]

    assert run(unit) == ["Linda"]


def test_a_connection_that_was_closed_is_replaced_after_a_rest(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.database() as url:
        engine, other = create_engine(url), create_engine(url)
        ask_idle_connections(engine)

        def close_it() -> None:
            with engine.begin() as connection:
                process = connection.scalar(text("SELECT pg_backend_pid()"))
            with other.begin() as connection:
                assert connection.scalar(
                    text("SELECT pg_terminate_backend(:process)"), {"process": process}
                )

        close_it()
        with pytest.raises(OperationalError), engine.begin() as connection:
            connection.scalar(text("SELECT 1"))
        monkeypatch.setattr(connections, "IDLE", 0.0)
        close_it()
        with engine.begin() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        engine.dispose()
        other.dispose()


NEW = [
    {"id": 1, "name": "Linda", "notes": {"for": ["salad", "soup"]}},
    {"id": 2, "name": 'O\'Brien "quoted" \\ ü', "notes": None},
    {"id": 3, "name": "null", "notes": {}},
]


def test_one_statement_serves_many_rows(run: Run) -> None:
    run(lambda to: ADD_MANY.run(to, *NEW))
    run(lambda to: RENAME_MANY.run(to, {"which": 1, "new_name": "Laura"}))
    wanted = [{"place": place, "which": which} for place, which in enumerate((3, 9, 1, 2))]
    found = run(lambda to: FIND_MANY.rows(to, wanted))
    assert [tuple(row) for row in found] == [
        (0, "null", {}),
        (2, "Laura", {"for": ["salad", "soup"]}),
        (3, NEW[1]["name"], None),
    ]
    assert {row.colour for row in run(lambda to: BY_ID.rows(to, {"which": 1}))} == {"yellow"}
    assert run(lambda to: to.execute(text("SELECT count(*) FROM potatoes WHERE notes IS NULL")))


def test_many_rows_are_all_there_or_none(run: Run) -> None:
    run(lambda to: ADD_MANY.run(to, NEW[0]))
    with pytest.raises(IntegrityError):
        run(lambda to: ADD_MANY.run(to, NEW[1], NEW[0]))
    assert run(lambda to: NAMES.rows(to, {})) == [("Linda",)]


@pytest.fixture
def direct(postgres: Postgres) -> Iterator[Callable[[Callable[[Direct], Any]], Any]]:
    """Runs what is given over connections of the driver's own."""
    with postgres.database() as url:
        engine = create_engine(url)
        metadata.create_all(engine)
        numbered.create_all(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(NOTES_COMMITS)
            name = connection.scalar(select(func.current_database()))
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET synchronous_commit = on')

        def run(what: Callable[[Direct], Any]) -> Any:
            async def within() -> Any:
                remote = create_async_engine(url)
                made = Direct(remote.url, remote.dialect, size=2)
                try:
                    return await what(made)
                finally:
                    await made.close()
                    await remote.dispose()

            return asyncio.run(within())

        yield run
        engine.dispose()


async def names(direct: Direct) -> list[str]:
    return [row.name for row in await direct.rows(NAMES, {})]


def test_changes_are_made_together_or_not_at_all(direct: Any) -> None:
    async def play(to: Direct) -> None:
        rename = (RENAME_MANY, [{"which": 1, "new_name": "Laura"}])
        await to.commit([(ADD_MANY, NEW), rename, (ADD_MANY, [])])
        assert await names(to) == ["Laura", NEW[1]["name"], "null"]
        again = (RENAME_MANY, [{"which": 1, "new_name": "Linda"}])
        for changes in ([again, (ADD_MANY, NEW[1:])], [(ADD_MANY, NEW[2:])]):
            with pytest.raises(IntegrityError):
                await to.commit(changes)
            # Nothing of it is left, neither in the database nor on the connection.
            assert (await names(to))[0] == "Laura"
        await asyncio.gather(*(names(to) for _ in range(10)))
        (row,) = await to.rows(FIND_MANY, [{"place": 7, "which": 1}])
        assert (row.place, row.name, row.notes) == (7, "Laura", {"for": ["salad", "soup"]})

    direct(play)


def test_changes_of_several_tables_are_one_statement_and_keep_their_order(direct: Any) -> None:
    async def play(to: Direct) -> None:
        for which in (1, 2):
            made = [{"id": bed, "heap": which} for bed in (which, which + 10)]
            await to.commit([(HEAP_MANY, [{"id": which}]), (BED_MANY, made)], lasting=which == 1)
        found = sorted(tuple(row) for row in await to.rows(NUMBERS, {}))
        assert found == [(1, 1, 2), (1, 1, 3), (2, 4, 5), (2, 4, 6)]
        for lasting in (True, False):
            twice = [(HEAP_MANY, [{"id": 3}]), (BED_MANY, [{"id": 1, "heap": 3}])]
            with pytest.raises(IntegrityError):
                await to.commit(twice, lasting=lasting)
        assert len(await to.rows(NUMBERS, {})) == 4
        # That it does not wait for the disk was said for one commit.
        await to.commit([(HEAP_MANY, [{"id": 4}])])
        await to.commit([(HEAP_MANY, [{"id": 5}])], lasting=False)
        await to.commit([(HEAP_MANY, [{"id": 6}])])
        kept = [(row.heap, row.waits) for row in await to.rows(COMMITS, {})]
        assert kept == [(1, "on"), (2, "off"), (4, "on"), (5, "off"), (6, "on")]

    direct(play)


def test_a_connection_that_the_server_has_closed_is_replaced(direct: Any) -> None:
    others = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> ")

    async def play(to: Direct) -> None:
        await to.commit([(ADD_MANY, NEW)])
        remote = create_async_engine(to._url)
        async with remote.connect() as connection:
            mine = "pg_backend_pid() AND datname = current_database()"
            await connection.execute(text(f"{others.text}{mine}"))
        await remote.dispose()
        await asyncio.sleep(0.2)
        assert len(await names(to)) == 3

    direct(play)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_that_is_lost_in_mid_statement_is_told_and_replaced(
    postgres: Postgres, run: Callable[[Any], Any]
) -> None:
    slow = Prepared(select(func.pg_sleep(30).label("slept")))
    sleeping = text(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE '%pg_sleep%' AND state = 'active'"
        " AND pid <> pg_backend_pid()"
    )

    async def play(url: str) -> None:
        remote = create_async_engine(url)
        made = Direct(remote.url, remote.dialect, size=2)
        try:
            task = asyncio.create_task(made.rows(slow, {}))
            async with remote.connect() as connection:
                for _ in range(100):
                    await asyncio.sleep(0.05)
                    if (await connection.execute(sleeping)).all():
                        break
            with pytest.raises(OperationalError) as raised:
                await task
            assert raised.value.connection_invalidated
            here = Prepared(select(bindparam("what", type_=Text).label("what")))
            assert (await made.rows(here, {"what": "here"}))[0].what == "here"
        finally:
            await made.close()
            await remote.dispose()

    with postgres.database() as url:
        run(play(url))


def test_a_value_that_cannot_be_sent_leaves_all_as_it_was(at_once: Run) -> None:
    def unit(within: Within) -> None:
        add(within, "Linda")
        RENAME.run(within, {"which": 1, "new_name": object()})

    for _ in range(2):
        with pytest.raises(DBAPIError):
            at_once(unit)
        assert at_once(lambda within: NAMES.rows(within, {})) == []


def test_transactions_at_once_of_many_threads(at_once: Run) -> None:
    def work(number: int) -> None:
        for first in range(number * 100 + 1, number * 100 + 21):
            at_once(lambda within, first=first: add(within, "Linda", first=first))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert at_once(lambda within: len(NAMES.rows(within, {}))) == 80


def test_whoever_is_cancelled_leaves_no_answer_for_the_next(direct: Any) -> None:
    async def play(to: Direct) -> None:
        await to.commit([(ADD_MANY, NEW)])
        slow = Prepared(select(func.pg_sleep(30).label("slept")))
        task = asyncio.create_task(to.rows(slow, {}))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(await names(to)) == 3

    direct(play)


def test_more_than_the_socket_takes_is_sent_and_read_beside_others(direct: Any) -> None:
    what = Prepared(select(bindparam("what", type_=Text).label("what")))
    long = "potato" * 1_000_000

    async def play(to: Direct) -> None:
        found = await asyncio.gather(*(to.rows(what, {"what": f"{n}{long}"}) for n in range(4)))
        assert [rows[0].what for rows in found] == [f"{n}{long}" for n in range(4)]

    direct(play)
