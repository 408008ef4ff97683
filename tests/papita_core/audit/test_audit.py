"""The audit log: whole under many writers, and every way of changing it found and named."""

from __future__ import annotations

import threading

import pytest

from papita_core.actors import Actor
from papita_core.audit.models import AuditRow
from papita_core.audit.service import Damage, Event
from papita_core.db import table_of
from papita_core.errors import VaultSealed
from tests.papita_core.house import KEY, House, at_once, both_engines


def write(house: House, count: int, action: str = "test.done") -> None:
    for number in range(count):
        with house.papita.database.write() as session:
            event = Event(action, "ana", "ana", f"subject {number}", details={"number": number})
            house.papita.audit.append(session, event)


@both_engines
def test_eight_writers_make_one_chain_from_the_first_row_on(house: House):
    assert house.papita.audit.count() == 0
    assert at_once([lambda: write(house, 10)] * 8) == [None] * 8
    assert [row[0] for row in house.sql("SELECT seq FROM audit_log ORDER BY seq")] == [
        *range(1, 81)
    ]
    assert house.papita.audit.verify() == []


@both_engines
def test_verifying_beside_writers_finds_no_damage_that_is_not_there(house: House):
    write(house, 3)
    stop = threading.Event()

    def keep_writing() -> None:
        while not stop.is_set():
            write(house, 1)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    found = [house.papita.audit.verify() for _ in range(25)]
    stop.set()
    writer.join()
    assert found == [[]] * 25


@both_engines
def test_a_row_goes_with_what_it_records_or_neither_does(house: House):
    def fail() -> None:
        with house.papita.database.write() as session:
            house.papita.audit.append(session, Event("test.done"), Event("test.done"))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert house.papita.audit.count() == 0
    write(house, 1)
    assert house.papita.audit.verify() == []


COLUMNS = (
    *("stream", "seq", "at", "action", "actor_id", "owner_id", "subject_id", "project_id"),
    *("outcome", "body", "key_kid", "mac"),
)
COPY = (
    f"INSERT INTO audit_log ({', '.join(COLUMNS)})"
    f" SELECT {', '.join(COLUMNS).replace('seq', '4')} FROM audit_log WHERE seq = 2"
)

DAMAGE = {
    "edited": [
        "UPDATE audit_log SET body = replace(body, 'ana', 'eve') WHERE seq = 4",
        "UPDATE audit_log SET mac = zeroblob(32) WHERE seq = 4",
        "UPDATE audit_log SET body = 'no json' WHERE seq = 4",
    ],
    "removed": [
        "DELETE FROM audit_log WHERE seq = 4",
        "DELETE FROM audit_log WHERE seq BETWEEN 4 AND 6",
        (
            "DELETE FROM audit_log WHERE seq = 4;"
            "UPDATE audit_log SET seq = seq - 100 WHERE seq > 4;"
            "UPDATE audit_log SET seq = seq + 99 WHERE seq < 0;"
            "UPDATE audit_heads SET seq = seq - 1"
        ),
    ],
    "inserted": [
        (
            "UPDATE audit_log SET seq = seq - 100 WHERE seq > 3;"
            "UPDATE audit_log SET seq = seq + 101 WHERE seq < 0;"
            f"{COPY};"
            "UPDATE audit_heads SET seq = seq + 1"
        ),
        COPY,
    ],
    "reordered": [
        (
            "UPDATE audit_log SET seq = -4 WHERE seq = 4;"
            "UPDATE audit_log SET seq = 4 WHERE seq = 5;"
            "UPDATE audit_log SET seq = 5 WHERE seq = -4"
        ),
        (
            "UPDATE audit_log SET seq = -4 WHERE seq = 4;"
            "UPDATE audit_log SET seq = 4 WHERE seq = 7;"
            "UPDATE audit_log SET seq = 7 WHERE seq = -4"
        ),
    ],
    "cut off": [
        "DELETE FROM audit_log WHERE seq >= 4",
        "DELETE FROM audit_log WHERE seq >= 4; UPDATE audit_heads SET seq = 3",
        (
            "DELETE FROM audit_log WHERE seq >= 4;"
            "UPDATE audit_heads SET seq = 3,"
            " mac = (SELECT mac FROM audit_log WHERE seq = 3)"
        ),
        (
            "UPDATE audit_heads SET seq = 3,"
            " mac = CAST((SELECT mac FROM audit_log WHERE seq = 3) || substr(mac, 33) AS BLOB);"
            "DELETE FROM audit_log WHERE seq >= 4"
        ),
    ],
}
CASES = [(kind, statements) for kind, several in DAMAGE.items() for statements in several]


@pytest.mark.parametrize(("kind", "statements"), CASES)
def test_every_kind_of_damage_is_found_where_it_is_and_named(
    house: House, kind: str, statements: str
):
    write(house, 3 if statements == COPY else 9)
    for statement in statements.split(";"):
        house.sql(statement)
    assert house.papita.audit.verify() == [Damage("main", 4, kind)]


EDITS = {
    "at": "at = '2001-01-01 00:00:00.000000'",
    "action": "action = 'test.undone'",
    "actor_id": "actor_id = 'eve'",
    "actor_id emptied": "actor_id = NULL",
    "owner_id": "owner_id = 'eve'",
    "owner_id emptied": "owner_id = NULL",
    "subject_id": "subject_id = 'eve'",
    "project_id": "project_id = 'eve'",
    "outcome": "outcome = 'forbidden'",
    "body": "body = replace(body, 'ana', 'eve')",
    "body with a space": "body = replace(body, ',', ', ')",
    "key_kid": "key_kid = 'nothing'",
    "mac": "mac = audit_heads.mac FROM audit_heads",
}


def test_every_column_of_a_row_is_among_the_edits():
    edited = {name.split()[0] for name in EDITS}
    assert edited | {"stream", "seq"} == set(COLUMNS) == set(table_of(AuditRow).columns.keys())


@both_engines
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_a_column_edited_alone_is_found(house: House, edit: str):
    write(house, 6)
    where = "seq = 4" if "FROM" not in edit else "audit_log.seq = 4"
    house.sql(f"UPDATE audit_log SET {edit} WHERE {where}")
    assert house.papita.audit.verify() == [Damage("main", 4, "edited")]


def test_a_row_moved_to_another_stream_is_missed_in_the_one_and_found_in_the_other(house: House):
    write(house, 6)
    house.sql("UPDATE audit_log SET stream = 'other' WHERE seq = 6")
    assert house.papita.audit.verify() == [
        Damage("main", 6, "cut off"),
        Damage("other", 0, "head gone"),
    ]


def test_a_row_before_the_first_is_found(house: House):
    write(house, 3)
    house.sql(COPY.replace(" 4,", " -4,"))
    assert house.papita.audit.verify() == [Damage("main", -4, "inserted")]


def test_damage_beyond_the_first_chunk_is_found(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("papita_core.audit.verify.CHUNK", 4)
    write(house, 12)
    assert house.papita.audit.verify() == []
    house.sql("UPDATE audit_log SET outcome = 'no' WHERE seq = 9")
    assert house.papita.audit.verify() == [Damage("main", 9, "edited")]
    house.sql("DELETE FROM audit_log WHERE seq >= 9")
    assert house.papita.audit.verify() == [Damage("main", 9, "cut off")]


def test_a_head_that_is_gone_is_found(house: House):
    write(house, 3)
    house.sql("DELETE FROM audit_heads")
    assert house.papita.audit.verify() == [Damage("main", 0, "head gone")]


def test_nothing_was_ever_there_before_the_first_user(house: House):
    assert house.papita.audit.verify() == []
    write(house, 3)
    empty(house)
    assert house.papita.audit.verify() == []


@both_engines
def test_a_log_that_was_emptied_is_noticed_and_stays_so(house: House):
    house.user("ana")
    assert house.papita.audit.verify() == []
    empty(house)
    assert house.papita.audit.verify() == [Damage("main", 0, "head gone")]
    write(house, 2)
    assert house.papita.audit.verify() == [Damage("main", 0, "head gone")]
    actions = [row[0] for row in house.sql("SELECT action FROM audit_log ORDER BY seq")]
    assert actions == ["audit.begun-anew", "test.done", "test.done"]
    house.user("ben")
    house.sql("DELETE FROM audit_log WHERE seq = 1")
    assert house.papita.audit.verify() == [Damage("main", 1, "removed")]


@both_engines
def test_a_user_more_does_not_hide_that_the_log_was_emptied(house: House):
    house.user("ana")
    empty(house)
    house.user("ben")
    assert house.papita.audit.verify() == [Damage("main", 0, "head gone")]


def empty(house: House) -> None:
    house.sql("DELETE FROM audit_log")
    house.sql("DELETE FROM audit_heads")


def test_a_row_that_follows_damage_is_no_second_damage_and_writing_goes_on(house: House):
    write(house, 5)
    house.sql("UPDATE audit_log SET body = '{}' WHERE seq = 2")
    write(house, 1)
    assert house.papita.audit.verify() == [Damage("main", 2, "edited")]


def test_a_mac_needs_the_key(house: House):
    """Another house with the same rows has other macs: the chain cannot be made anew outside."""
    write(house, 1)
    mac = house.sql("SELECT mac, body FROM audit_log")
    house.sql("DELETE FROM audit_log")
    house.sql("DELETE FROM audit_heads")
    for table in ("purpose_keys", "key_slots", "root_keys"):
        house.sql(f"DELETE FROM {table}")
    house.opened()
    assert house.papita.audit.verify() == []
    house.sql(
        f"INSERT INTO audit_log ({', '.join(COLUMNS)})"
        " SELECT 'main', 1, '2026-01-01 00:00:00.000000', 'test.done', 'ana', 'ana', 'subject 0',"
        " null, 'ok', :b, kid, :m FROM purpose_keys WHERE purpose = 'audit'",
        b=mac[0][1],
        m=mac[0][0],
    )
    house.sql("INSERT INTO audit_heads VALUES ('main', 1, :m)", m=mac[0][0])
    fresh = house.opened()
    assert [damage.kind for damage in fresh.audit.verify()] == ["edited"]


def test_no_body_holds_a_value(house: House):
    ana = house.sign_in("ana")
    house.key(ana, label="a label of mine")
    house.lend(house.project_token(ana), "ana")
    bodies = repr(house.sql("SELECT * FROM audit_log"))
    assert KEY not in bodies
    assert "a label of mine" not in bodies


def test_no_audit_row_no_plaintext(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    token = house.project_token(ana)
    house.sql("CREATE TRIGGER t BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(Exception, match="went wrong"):
        house.lend(token, "ana")
    with pytest.raises(Exception, match="full"):
        house.papita.credentials.test(ana, house.papita.credentials.list(ana).items[0].id)
    house.sql("DROP TRIGGER t")
    house.lend(token, "ana")


def test_a_sealed_vault_takes_no_rows(house: House):
    write(house, 1)
    (house.settings().keys_dir / "master.key").unlink()
    sealed = house.opened()
    with sealed.database.read() as session, pytest.raises(VaultSealed):
        sealed.audit.append(session, Event("test.done"))


@both_engines
def test_the_log_goes_on_under_a_fresh_key_and_stays_whole(house: House):
    other = house.opened()  # a replica that has not heard of the rotation yet
    write(house, 3)
    fresh = house.papita.rotation.rotate_audit(Actor.operator())
    write(house, 2)
    with other.database.write() as session:
        other.audit.append(session, Event("test.late"))
    write(house, 1)
    kids = [row[0] for row in house.sql("SELECT key_kid FROM audit_log ORDER BY seq")]
    assert (kids[4:6], kids[7:]) == ([fresh, fresh], [fresh])
    assert {*kids[:4], kids[6]} == {kids[0]} != {fresh}
    for reader in (house.papita, other, house.opened()):
        assert reader.audit.verify() == []
    house.sql("UPDATE audit_log SET key_kid = :fresh WHERE seq = 2", fresh=fresh)
    assert house.papita.audit.verify() == [Damage("main", 2, "edited")]
    house.sql("UPDATE audit_log SET key_kid = :old WHERE seq = 2", old=kids[0])
    house.sql("UPDATE audit_log SET outcome = 'no' WHERE seq = 3")
    assert house.papita.audit.verify() == [Damage("main", 3, "edited")]


def test_rows_whose_key_is_gone_are_no_proof_of_anything(house: House):
    write(house, 3)
    house.papita.rotation.rotate_audit(Actor.operator())
    write(house, 3)
    house.sql("DELETE FROM purpose_keys WHERE purpose = 'audit' AND state = 'retired'")
    assert house.opened().audit.verify() == [Damage("main", 1, "edited")]
