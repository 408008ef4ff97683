"""Finding things in the log: filters, pages, exports, and who may see what."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy.event

from papita_core.actors import Actor
from papita_core.audit.export import COLUMNS, as_csv, as_json_lines
from papita_core.audit.search import FAILED, AuditFilter, Entry, moment
from papita_core.audit.service import Event
from papita_core.errors import Forbidden, InvalidInput
from tests.papita_core.house import House, both_engines

ADA = Actor("ada", "ada", "administrator")


def write(house: House, *events: Event, stream: str = "main") -> None:
    with house.papita.database.write() as session:
        house.papita.audit.append(session, *events, stream=stream)


def subjects(house: House, actor: Actor = ADA, **wanted: object) -> list[str | None]:
    page = house.papita.audit.entries(actor, AuditFilter(**wanted))  # type: ignore[arg-type]
    return [entry.event.subject_id for entry in page.items]


@both_engines
def test_each_filter_finds_what_it_says(house: House):
    start = house.clock()
    write(house, Event("key.read", "al-chat", "ana", "1", "al-chat"))
    house.clock.forward(hours=1)
    write(house, Event("key.read", "al-chat", "ben", "2", "al-chat", outcome="forbidden"))
    house.clock.forward(hours=1)
    write(house, Event("user.added", "ana", "ben", "3"))
    assert subjects(house) == ["3", "2", "1"]
    assert subjects(house, actor_id="al-chat") == ["2", "1"]
    assert subjects(house, owner_id="ben") == ["3", "2"]
    assert subjects(house, user_id="ana") == ["3", "1"]
    assert subjects(house, action="user.added") == ["3"]
    assert subjects(house, subject_id="2") == ["2"]
    assert subjects(house, project_id="al-chat") == ["2", "1"]
    assert subjects(house, outcome="ok") == ["3", "1"]
    assert subjects(house, outcome="forbidden") == subjects(house, outcome=FAILED) == ["2"]
    assert subjects(house, since=start + timedelta(minutes=30)) == ["3", "2"]
    assert subjects(house, until=start + timedelta(minutes=30)) == ["1"]
    assert subjects(house, owner_id="ben", outcome="ok", project_id="al-chat") == []
    assert house.papita.audit.actions() == ("key.read", "user.added")


def test_since_counts_and_until_does_not(house: House):
    write(house, Event("test.done", subject_id="1"))
    at = house.papita.audit.entries(ADA).items[0].at
    assert subjects(house, since=at) == ["1"]
    assert subjects(house, until=at) == []


@both_engines
def test_pages_of_several_streams_hold_every_row_once_newest_first(house: House):
    for number in range(12):
        # Three of a kind have the same moment.
        stream = ("main", "loans-1", "loans-2")[number % 3]
        write(
            house,
            *[Event("test.done", subject_id=f"{number}.{n}") for n in range(3)],
            stream=stream,
        )
    everything = house.papita.audit.entries(ADA, limit=500)
    assert everything.next_cursor is None
    assert len(everything.items) == 36 + 2
    found: list[Entry] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = house.papita.audit.entries(ADA, cursor=cursor, limit=7)
        # What is written meanwhile comes before the first page and moves nothing.
        write(house, Event("test.later"))
        found, cursor, pages = found + page.items, page.next_cursor, pages + 1
    assert found == everything.items
    assert pages == 6
    places = [(entry.at, entry.stream, entry.seq) for entry in found]
    assert places == sorted(places, reverse=True)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "MQ",
        "MS4xLm1haW4=\n",
        "MS4xLk1BSU4",
        "MS4tMS5tYWlu",
        "A" * 4000,
        "\x00",
        "=" * 9,
    ],
)
def test_what_is_no_cursor_is_refused(house: House, cursor: str):
    with pytest.raises(InvalidInput) as refused:
        house.papita.audit.entries(ADA, cursor=cursor)
    assert set(refused.value.errors) == {"cursor"}


def test_a_cursor_far_away_is_an_empty_page(house: House):
    write(house, Event("test.done"))
    audit = house.papita.audit
    assert audit.entries(ADA, cursor="MS4xLm1haW4").items == []  # 1.1.main


@both_engines
@pytest.mark.parametrize("text", ["a\x00b", "a\nb", "\udcff"])
def test_text_that_no_row_can_hold_is_refused(house: House, text: str):
    with pytest.raises(InvalidInput):
        house.papita.audit.entries(ADA, AuditFilter(project_id=text))
    with pytest.raises(InvalidInput):
        house.papita.audit.export(ADA, AuditFilter(subject_id=text))
    with pytest.raises(InvalidInput):
        house.papita.audit.user_id(ADA, text)


@pytest.mark.parametrize("limit", [0, -1, 501])
def test_a_page_has_a_size(house: House, limit: int):
    with pytest.raises(InvalidInput):
        house.papita.audit.entries(ADA, limit=limit)


def test_users_see_what_concerns_them_and_the_auditor_everything(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    ada = house.sign_in("ada", "administrator")
    info = house.key(ana)
    house.key(ben)
    audit = house.papita.audit
    owners = {entry.event.owner_id for entry in audit.entries(ana).items}
    assert owners == {entry.event.owner_id for entry in audit.export(ana)} == {ana.user_id}
    assert subjects(house, ana, action="credential.created") == [info.id]
    assert subjects(house, ana, owner_id=ben.user_id) == []
    assert subjects(house, ana, user_id=ben.user_id) == []
    everything = {entry.event.owner_id for entry in audit.entries(ada).items}
    assert {ana.user_id, ben.user_id} <= everything
    assert audit.entries(Actor("x", "x", "guest")).items == []
    narrowed = Actor(ada.user_id, "ada", "administrator", scopes=frozenset({"credentials:read"}))
    assert {entry.event.owner_id for entry in audit.entries(narrowed).items} == {ada.user_id}


def test_entries_name_those_who_are_users(house: House):
    ana = house.sign_in("ana")
    write(house, Event("test.done", "al-chat", ana.user_id), Event("test.done", ana.user_id, "x"))
    last, first = house.papita.audit.entries(ADA, limit=2).items
    assert (first.actor_name, first.owner_name) == (None, "ana")
    assert (last.actor_name, last.owner_name) == ("ana", None)


def test_a_name_or_an_id_finds_the_user(house: House):
    ana, audit = house.user("ana"), house.papita.audit
    assert audit.user_id(ADA, " Ana ") == audit.user_id(ADA, ana) == ana
    assert audit.user_id(ADA, "operator") == "operator"
    with pytest.raises(InvalidInput) as refused:
        audit.user_id(ADA, "nobody-here")
    assert "nobody-here" not in str(refused.value)
    with pytest.raises(Forbidden):
        audit.user_id(Actor("x", "x", "member"), "ana")


def test_a_damaged_row_is_still_shown(house: House):
    write(house, Event("test.done", "ana", "ben", "1", "al-chat", outcome="forbidden"))
    for body in ("no json", "[]", '{"action": "x", "unknown": 1}', "null"):
        house.sql("UPDATE audit_log SET body = :body", body=body)
        (entry,) = house.papita.audit.entries(ADA).items
        assert entry.event == Event(
            *("test.done", "ana", "ben", "1", "al-chat"),
            outcome="forbidden",
            details={"body": "unreadable"},
        )


@both_engines
def test_an_export_is_the_log_oldest_first_in_chunks(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("papita_core.audit.service.EXPORT_CHUNK", 4)
    for number in range(11):
        write(house, Event("test.done", subject_id=str(number)), stream=f"s-{number % 2}")
    expected = house.papita.audit.entries(ADA).items[::-1]
    export = house.papita.audit.export(ADA)
    first = next(export)
    # Between two chunks nothing is held: others write, on SQLite too, and are not in the export.
    write(house, Event("test.later"))
    assert [first, *export] == expected
    only = house.papita.audit.export(ADA, AuditFilter(subject_id="7"))
    assert [entry.event.subject_id for entry in only] == ["7"]


def test_an_export_of_many_rows_keeps_few_in_memory(house: House, monkeypatch: pytest.MonkeyPatch):
    write(house, *[Event("test.done", subject_id=str(number)) for number in range(300)])
    monkeypatch.setattr("papita_core.audit.service.EXPORT_CHUNK", 50)
    statements: list[str] = []
    sqlalchemy.event.listen(
        house.papita.database.engine,
        "before_cursor_execute",
        lambda *given: statements.append(given[2]),
    )
    export = house.papita.audit.export(ADA)
    for _ in range(60):
        next(export)
    assert len([s for s in statements if "LIMIT" in s]) == 2


def entry(event: Event, **more: str) -> Entry:
    at = datetime(2030, 1, 31, 12, 0, 0, 5, UTC)
    return Entry("main", 7, at, event, **more)  # type: ignore[arg-type]


FULL = Event(
    *("credential.read", "al-chat", "u-1", "c-1", "al-chat", "l-1", "q-1", "r-1"),
    details={"version": 3, "name": "ä,\n"},
)


def test_json_lines_have_the_names_of_the_api():
    line, other = as_json_lines([entry(FULL, owner_name="ana"), entry(Event("x"))])
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "at": "2030-01-31T12:00:00.000005+00:00",
        "stream": "main",
        "seq": 7,
        "action": "credential.read",
        "actorId": "al-chat",
        "actorName": None,
        "ownerId": "u-1",
        "ownerName": "ana",
        "subjectId": "c-1",
        "projectId": "al-chat",
        "leaseId": "l-1",
        "runId": "r-1",
        "requestId": "q-1",
        "outcome": "ok",
        "details": {"version": 3, "name": "ä,\n"},
    }
    assert json.loads(other)["details"] == {}


def read_csv(*entries: Entry) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(as_csv(entries)), newline="")))


def test_csv_has_a_header_and_readable_names():
    (row,) = read_csv(entry(FULL, owner_name="ana"))
    assert tuple(row) == COLUMNS
    assert (row["at"], row["actor"], row["owner"]) == (
        *("2030-01-31T12:00:00.000005+00:00", "al-chat", "ana"),
    )
    assert (row["actor_id"], row["owner_id"]) == ("al-chat", "u-1")
    assert json.loads(row["details"]) == {"version": 3, "name": "ä,\n"}
    assert "".join(as_csv([])) == ",".join(COLUMNS) + "\r\n"
    (empty,) = read_csv(entry(Event("x")))
    assert {empty[name] for name in ("actor", "owner", "subject", "details")} == {""}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_nothing_in_a_csv_is_a_formula(start: str):
    text = f"{start}cmd|'/c calc'!A1"
    (row,) = read_csv(entry(Event(text, text, text, text, text, text, text, text, outcome=text)))
    for name in ("action", "actor", "owner", "subject", "project", "lease", "run", "outcome"):
        assert row[name] == f"'{text}"


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2030-01-31", "2030-01-31T00:00", "2030-02-01T00:00"),
        ("2030-01-31T12:30", "2030-01-31T12:30", "2030-01-31T12:30"),
        ("2030-01-31T12:30:00Z", "2030-01-31T12:30", "2030-01-31T12:30"),
        ("2030-01-31T00:30:00+01:00", "2030-01-30T23:30", "2030-01-30T23:30"),
    ],
)
def test_times_are_read_as_people_type_them(text: str, since: str, until: str):
    assert moment(text) == datetime.fromisoformat(since).replace(tzinfo=UTC)
    assert moment(text, end=True) == datetime.fromisoformat(until).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "soon", "2030-13-01", "0001-01-01T00:00:00+14:00", "9999-12-31", "2030-01-31 x"]
)
def test_what_is_no_time_is_refused(text: str):
    for end in (False, True):
        with pytest.raises(ValueError, match=r"year|format|day|month|range"):
            moment(text, end=end)
