"""The audit log: whole under many writers, and every way of changing it found and named."""

from __future__ import annotations

import threading

import pytest

from papita_core.actors import Actor
from papita_core.audit.service import Damage, Event
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


DAMAGE = {
    "edited": [
        "UPDATE audit_log SET body = replace(body, 'ana', 'eve') WHERE seq = 4",
        "UPDATE audit_log SET mac = zeroblob(32) WHERE seq = 4",
        "UPDATE audit_log SET action = 'test.undone' WHERE seq = 4",
        "UPDATE audit_log SET owner_id = 'eve' WHERE seq = 4",
        "UPDATE audit_log SET at = '2001-01-01 00:00:00.000000' WHERE seq = 4",
        "UPDATE audit_log SET key_kid = 'nothing' WHERE seq = 4",
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
            "INSERT INTO audit_log SELECT stream, 4, at, action, owner_id, body, key_kid, mac"
            " FROM audit_log WHERE seq = 2;"
            "UPDATE audit_heads SET seq = seq + 1"
        ),
        (
            "INSERT INTO audit_log SELECT stream, 4, at, action, owner_id, body, key_kid, mac"
            " FROM audit_log WHERE seq = 2"
        ),
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
    ],
}
CASES = [(kind, statements) for kind, several in DAMAGE.items() for statements in several]


@pytest.mark.parametrize(("kind", "statements"), CASES)
def test_every_kind_of_damage_is_found_where_it_is_and_named(
    house: House, kind: str, statements: str
):
    write(house, 3 if "SELECT stream, 4" in statements and "heads" not in statements else 9)
    for statement in statements.split(";"):
        house.sql(statement)
    assert house.papita.audit.verify() == [Damage("main", 4, kind)]


def test_a_head_or_a_whole_stream_that_is_gone_is_found(house: House):
    write(house, 3)
    house.sql("DELETE FROM audit_heads")
    assert [damage.kind for damage in house.papita.audit.verify()] == ["head gone"]
    house.sql("DELETE FROM audit_log")
    assert [damage.kind for damage in house.papita.audit.verify()] == []  # nothing was ever there


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
        "INSERT INTO audit_log SELECT 'main', 1, '2026-01-01', 'a', null, :b, kid, :m"
        " FROM purpose_keys WHERE purpose = 'audit'",
        b=mac[0][1],
        m=mac[0][0],
    )
    house.sql("INSERT INTO audit_heads VALUES ('main', 1, :m)", m=mac[0][0])
    fresh = house.opened()
    assert [damage.kind for damage in fresh.audit.verify()] == ["edited"]


def test_users_see_what_concerns_them_and_the_auditor_everything(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    ada = house.sign_in("ada", "administrator")
    info = house.key(ana)
    house.key(ben)
    audit = house.papita.audit
    mine = audit.entries(ana, owner_id=ben.user_id)
    assert {entry.event.owner_id for entry in mine} == {ana.user_id}
    created = audit.entries(ana, action="credential.created")
    assert [entry.event.subject_id for entry in created] == [info.id]
    everything = audit.entries(ada)
    assert {ana.user_id, ben.user_id} <= {entry.event.owner_id for entry in everything}
    assert [entry.seq for entry in everything] == sorted(
        (entry.seq for entry in everything), reverse=True
    )
    pages = [audit.entries(ada, before=seq, limit=1)[0].seq for seq in (3, 2)]
    assert pages == [2, 1]
    assert audit.entries(Actor("x", "x", "guest")) == []


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
