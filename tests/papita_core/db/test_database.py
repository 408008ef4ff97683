"""Units of work: nobody's change is lost, and a reader sees one moment."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import Text, bindparam, column, literal, select, table, text
from sqlalchemy.exc import DBAPIError

from papita_core.db import Database, Prepared, among, table_of
from papita_core.grants.models import LeaseRow
from sqlkit.connections import IDLE
from tests.papita_core.house import House, at_once, both_engines


@pytest.fixture
def counter(house: House) -> Database:
    house.sql("CREATE TABLE counter (id INTEGER PRIMARY KEY, value INTEGER)")
    house.sql("INSERT INTO counter VALUES (1, 0)")
    return house.papita.database


def value(database: Database) -> int:
    with database.read() as session:
        return int(session.execute(text("SELECT value FROM counter")).scalar_one())


@both_engines
def test_eight_writers_that_read_first_lose_nothing(counter: Database):
    """The default of the SQLite driver keeps 61 of 480 here, and says nothing."""

    def work() -> None:
        for _ in range(30):
            with counter.write() as session:
                lock = "" if counter.is_sqlite else " FOR UPDATE"
                found = session.execute(text(f"SELECT value FROM counter{lock}")).scalar_one()
                session.execute(text("UPDATE counter SET value = :v"), {"v": found + 1})

    assert at_once([work] * 8) == [None] * 8
    assert value(counter) == 240


@both_engines
def test_writers_of_two_processes_queue_as_well(counter: Database, house: House):
    other = Database(house.settings().database)

    def work(database: Database) -> None:
        for _ in range(30):
            with database.write() as session:
                database.one_at_a_time(session)
                found = session.execute(text("SELECT value FROM counter")).scalar_one()
                session.execute(text("UPDATE counter SET value = :v"), {"v": found + 1})

    assert at_once([lambda: work(counter), lambda: work(other)] * 2) == [None] * 4
    other.close()
    assert value(counter) == 120


@both_engines
def test_an_error_rolls_back(counter: Database):
    def fail() -> None:
        with counter.write() as session:
            session.execute(text("UPDATE counter SET value = 5"))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert value(counter) == 0


@both_engines
def test_a_reader_sees_one_moment_while_a_writer_commits(counter: Database):
    with counter.read() as session:
        query = text("SELECT value FROM counter")
        before = session.execute(query).scalar_one()

        def write() -> None:
            with counter.write() as writer:
                writer.execute(text("UPDATE counter SET value = 7"))

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(10)
        assert session.execute(query).scalar_one() == before
    assert value(counter) == 7


@both_engines
def test_a_reader_changes_nothing(counter: Database):
    change = text("UPDATE counter SET value = 9")
    if counter.is_sqlite:
        with counter.read() as session:
            session.execute(change)
    else:
        with pytest.raises(DBAPIError, match="read-only"), counter.read() as session:
            session.execute(change)
    assert value(counter) == 0
    with counter.write() as session:
        session.execute(change)
    assert value(counter) == 9


@both_engines
def test_each_statement_of_a_look_sees_what_is_committed_by_then(counter: Database):
    query = Prepared(select(column("value")).select_from(table("counter")))
    with counter.look() as connection:
        assert query.first(connection, {}).value == 0
        with counter.write() as session:
            session.execute(text("UPDATE counter SET value = 3"))
            assert query.first(connection, {}).value == 0
        assert query.first(connection, {}).value == 3


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_what_reads_leaves_the_statements_prepared_that_others_use(counter: Database):
    """psycopg prepares what it has run five times, and forgets all of that at a rollback."""
    for _ in range(10):
        assert value(counter) == 0
    with counter.write() as session:
        wanted = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%counter%'"
        assert session.scalar(text(wanted)) == 1


def test_sqlite_keeps_what_it_promises(house: House):
    with house.papita.database.engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


@both_engines
def test_no_parameter_is_in_an_error_or_a_log(house: House, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    query = text("SELECT * FROM no_such_table WHERE a = :a")
    with house.papita.database.read() as session:
        with pytest.raises(DBAPIError, match="no_such_table") as caught:
            session.execute(query, {"a": "canary-7"})
        session.rollback()
    assert "canary-7" not in str(caught.value) + caplog.text


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_connections_that_the_server_closed_while_idle_are_replaced(
    counter: Database, house: House
):
    def hold() -> None:
        with counter.read() as session:
            session.execute(text("SELECT pg_sleep(0.2)"))

    assert at_once([hold] * 3) == [None] * 3
    other = Database(house.settings().database)
    with other.read() as session:
        closed = session.scalars(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
        ).all()
    other.close()
    assert len(closed) >= 3
    assert all(closed)
    time.sleep(IDLE + 0.1)

    assert at_once([hold] * 3) == [None] * 3
    assert value(counter) == 0


@both_engines
def test_membership_in_a_list_that_is_one_parameter(counter: Database):
    words = ["one", "it's", '"two"', "dr\u00e9i", "{x,y}", "\\"]
    query = select(literal("name").label("x")).where(
        among(bindparam("word", type_=Text()), "words")
    )
    with counter.read() as session:
        for word in words:
            assert session.scalar(query, {"word": word, "words": words}) == "name"
            assert session.scalar(query, {"word": word, "words": []}) is None
            others = [other for other in words if other != word]
            assert session.scalar(query, {"word": word, "words": others}) is None


def test_a_list_of_one_parameter_uses_the_index(house: House):
    """SQLAlchemy would put "= 1" after it, and SQLite would then read the whole table."""
    lease = table_of(LeaseRow)
    query = select(lease.c.id).where(among(lease.c.token_hash, "hashes"))
    with house.papita.database.read() as session:
        statement = str(query.compile(session.connection()))
        explained = session.connection().exec_driver_sql(
            f"EXPLAIN QUERY PLAN {statement}", ('["a"]',)
        )
        plan = [str(line.detail) for line in explained]
    assert any("SEARCH leases USING INDEX" in line for line in plan), plan
