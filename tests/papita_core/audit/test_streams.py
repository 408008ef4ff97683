"""Several streams: no writer waits for ever, and no stream disappears unseen."""

from __future__ import annotations

import pytest

from papita_core.audit.service import LOAN_STREAMS, Damage, Event
from tests.papita_core.house import House, at_once, both_engines

on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


def write(house: House, stream: str, count: int = 1) -> None:
    for _ in range(count):
        with house.papita.database.write() as session:
            house.papita.audit.append(session, Event("test.done", "ana"), stream=stream)


def rows(house: House) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for stream, seq in house.sql("SELECT stream, seq FROM audit_log ORDER BY stream, seq"):
        found.setdefault(stream, []).append(seq)
    return found


def test_sqlite_has_one_stream(house: House):
    assert {house.papita.audit.loan_stream() for _ in range(50)} == {"main"}


@on_postgresql
def test_postgresql_has_sixteen_for_loans(house: House):
    assert {house.papita.audit.loan_stream() for _ in range(500)} == set(LOAN_STREAMS)
    assert len(LOAN_STREAMS) == 16


@both_engines
def test_the_opening_of_a_stream_is_a_row_of_main(house: House):
    write(house, "loans-3", 2)
    write(house, "main")
    assert rows(house) == {"loans-3": [1, 2], "main": [1, 2]}
    body = house.sql("SELECT body FROM audit_log WHERE action = 'audit.stream-opened'")[0][0]
    assert '"details":{"stream":"loans-3"}' in body
    assert house.papita.audit.verify() == []


@both_engines
def test_an_opening_that_is_rolled_back_never_was(house: House):
    def fail() -> None:
        with house.papita.database.write() as session:
            house.papita.audit.append(session, Event("test.done"), stream="loans-3")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert rows(house) == {}
    write(house, "loans-3")
    assert rows(house) == {"loans-3": [1], "main": [1]}
    assert house.papita.audit.verify() == []


@both_engines
def test_eight_writers_open_streams_at_once(house: House):
    """Some open the same one, some another, some write to main meanwhile; main is new, too."""
    streams = ["loans-0", "loans-0", "loans-0", "loans-1", "loans-1", "loans-2", "main", "main"]
    for again in range(3):
        named = [s if s == "main" else f"{s}{again}" for s in streams]
        calls = [lambda stream=stream: write(house, stream, 3) for stream in named]
        assert at_once(calls) == [None] * 8
    found = rows(house)
    main = found.pop("main")
    assert main == [*range(1, 2 * 3 * 3 + 9 + 1)]
    sizes = {"loans-0": 9, "loans-1": 6, "loans-2": 3}
    assert found == {
        f"{stream}{again}": [*range(1, size + 1)]
        for again in range(3)
        for stream, size in sizes.items()
    }
    assert house.papita.audit.verify() == []


@both_engines
def test_writers_of_main_and_of_streams_that_are_opened_do_not_wait_for_each_other(house: House):
    """Main first and then a stream, in one transaction, beside openers of that stream."""

    def both(stream: str) -> None:
        with house.papita.database.write() as session:
            house.papita.audit.append(session, Event("test.done"))
            house.papita.audit.append(session, Event("test.done"), stream=stream)

    for number in range(5):
        stream = f"loans-{number}"
        calls = [lambda s=stream: both(s)] * 4 + [lambda s=stream: write(house, s)] * 4
        assert at_once(calls) == [None] * 8
    assert house.papita.audit.verify() == []


@on_postgresql
def test_eight_writers_on_eight_streams_make_eight_chains(house: House):
    streams = LOAN_STREAMS[:8]
    assert at_once([lambda s=s: write(house, s, 10) for s in streams]) == [None] * 8
    assert rows(house) == {"main": [*range(1, 9)]} | {s: [*range(1, 11)] for s in streams}
    assert house.papita.audit.verify() == []


def gone(house: House, *statements: str) -> list[Damage]:
    for statement in statements:
        house.sql(statement)
    return house.papita.audit.verify()


@both_engines
def test_a_stream_that_main_knows_and_that_is_gone_is_noticed(house: House):
    write(house, "loans-3", 2)
    write(house, "loans-5")
    head = "DELETE FROM audit_heads WHERE stream = 'loans-3'"
    assert gone(house, head) == [Damage("loans-3", 0, "head gone")]
    log = "DELETE FROM audit_log WHERE stream = 'loans-3'"
    assert gone(house, log) == [Damage("loans-3", 0, "head gone")]
    write(house, "loans-3")  # opens it again
    assert house.papita.audit.verify() == [Damage("loans-3", 0, "head gone")]


def test_a_stream_whose_opening_is_removed_from_main_is_noticed(house: House):
    write(house, "loans-3")
    write(house, "main")
    found = gone(house, "DELETE FROM audit_log WHERE stream = 'main' AND seq = 1")
    assert found == [Damage("main", 1, "removed")]


def test_an_opening_that_is_no_json_any_more_is_named(house: House):
    write(house, "loans-3")
    write(house, "main")
    edit = "UPDATE audit_log SET body = 'no json' WHERE action = 'audit.stream-opened'"
    assert gone(house, edit) == [Damage("main", 1, "edited")]


def test_a_stream_that_nobody_opened_is_noticed(house: House):
    write(house, "main")
    found = gone(house, "INSERT INTO audit_heads SELECT 'loans-9', 0, zeroblob(32)")
    assert found == [Damage("loans-9", 0, "inserted")]


def test_damage_in_two_streams_is_told_of_both_main_first(house: House):
    write(house, "a-stream", 3)
    write(house, "main", 3)
    found = gone(house, "UPDATE audit_log SET outcome = 'no' WHERE seq = 2")
    assert found == [Damage("main", 2, "edited"), Damage("a-stream", 2, "edited")]
