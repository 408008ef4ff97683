"""Keys are changed while everything runs: nothing is lost, nothing is sealed under a key that is
gone, and a row that cannot be read is named and left alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

import jwt
import pytest

from papita_core.actors import Actor
from papita_core.app import Papita
from papita_core.audit.service import AuditFilter, Entry
from papita_core.db import Database
from papita_core.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    PapitaError,
    RotationRunning,
    SecretUnreadable,
    VaultSealed,
)
from papita_core.grants.user_tokens import TokenInvalid
from papita_core.settings import SettingsError
from papita_core.vault import master_rotation, sealed_rows
from papita_core.vault import rotation as rotation_module
from papita_core.vault.keyring import USER_TOKEN, KeyRing
from papita_core.vault.master_key import LocalMasterKey, generated_paths, next_generated
from papita_core.vault.models import Credential, CredentialSecret, Sealed
from papita_core.vault.rotation import Progress
from papita_core.vault.service import CredentialInfo, NewCredential, ReplaceCredential
from papita_core.vault.turn import turn
from tests.papita_core.house import House, at_once, both_engines

OPERATOR = Actor.operator()


def filled(house: House, keys: int = 3) -> tuple[Actor, list[CredentialInfo]]:
    """A user with so many keys; key number n holds `secret-n`."""
    actor = house.sign_in("ana")
    return actor, [house.key(actor, secret(number)) for number in range(keys)]


def secret(number: int) -> str:
    return f"sk-demo-secret-{number:08}"


def opened(papita: Papita, info: CredentialInfo) -> str:
    """What lies in the row, opened by this process."""
    with papita.database.read() as session:
        row = session.get_one(Credential, info.id)
        return papita.credentials.unsealed(session, row)["api_key"]


def roots(house: House) -> dict[str, str]:
    return {row.kid: row.state for row in house.sql("SELECT kid, state FROM root_keys")}


def under(house: House) -> set[str]:
    """The root keys under which anything is sealed."""
    return {
        row[0]
        for table in ("credential_secrets", "purpose_keys")
        for row in house.sql(f"SELECT kek_kid FROM {table}")
    }


def active(house: House) -> str:
    return str(house.sql("SELECT kid FROM root_keys WHERE state = 'active'")[0][0])


def recorded(house: House, action: str) -> list[Entry]:
    return list(house.papita.audit.entries(OPERATOR, AuditFilter(action=action)).items)


# --- the root key ---


@both_engines
def test_everything_moves_to_a_new_root_key_and_the_old_one_is_retired(house: House):
    _, infos = filled(house, 5)
    old = active(house)
    before = house.sql("SELECT blob FROM credential_secrets ORDER BY credential_id")
    seen: list[Progress] = []
    done = house.papita.rotation.rotate_root(OPERATOR, seen.append)
    assert done.problem is None
    assert done.moved == 9  # five secrets, four keys of the ring
    assert roots(house) == {old: "retired", done.new_kid: "active"}
    assert under(house) == {done.new_kid}
    assert house.sql("SELECT root_kid FROM key_slots") == [(done.new_kid,)]
    # Ciphertexts are never touched.
    assert house.sql("SELECT blob FROM credential_secrets ORDER BY credential_id") == before
    assert [item.done for item in seen] == sorted(item.done for item in seen)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 9, 9)
    assert house.papita.rotation.progress() == Progress("idle", 0, 0)
    for papita in (house.papita, house.opened()):
        assert [opened(papita, info) for info in infos] == [secret(n) for n in range(5)]
        assert papita.audit.verify() == []
    (started,) = recorded(house, "key.rotation-started")
    (ended,) = recorded(house, "key.rotated")
    assert started.event.details == {"from": old, "to": done.new_kid}
    assert ended.event.details == {"from": old, "to": done.new_kid, "rows": 9}
    status = house.papita.ring.status
    assert [(root.state, len(root.slots)) for root in status.roots] == [
        ("retired", 0),
        ("active", 1),
    ]


def test_batches_end_and_begin_anywhere(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rotation_module, "BATCH", 2)
    _, infos = filled(house, 5)
    for _ in range(2):
        assert house.papita.rotation.rotate_root(OPERATOR).moved == 9
    assert [opened(house.papita, info) for info in infos] == [secret(n) for n in range(5)]


@both_engines
def test_a_process_that_does_not_know_of_a_rotation_seals_and_opens_rightly(house: House):
    """It must never seal under a root key whose slots are gone: nobody could open that again."""
    actor, (info, *_) = filled(house)
    stale = house.opened()
    done = house.papita.rotation.rotate_root(OPERATOR)
    assert not stale.ring.knows(done.new_kid)
    new = stale.credentials.create(actor, NewCredential("openai", {"api_key": secret(77)}))
    assert stale.ring.knows(done.new_kid)
    assert under(house) == {done.new_kid}
    assert opened(house.papita, new) == secret(77)
    house.papita.rotation.rotate_root(OPERATOR)
    assert opened(stale, info) == secret(0)  # met when opening, this time
    again = house.opened()
    assert [opened(again, item) for item in (info, new)] == [secret(0), secret(77)]


@both_engines
def test_eight_writers_and_readers_and_two_rotations_at_once_lose_nothing(house: House):
    actor, _ = filled(house, 0)
    papitas = [house.papita, house.opened(), house.opened()]
    made: dict[str, str] = {}
    numbers = count()
    ending = threading.Event()

    def write(papita: Papita) -> int:
        rounds = 0
        while not ending.is_set() or rounds == 0:
            value = secret(next(numbers))
            new = NewCredential("openai", {"api_key": value})
            info = papita.credentials.create(actor, new)
            if rounds % 3 == 0:
                value = secret(next(numbers))
                change = ReplaceCredential(secret={"api_key": value})
                papita.credentials.replace(actor, info.id, change, etag=info.etag)
            made[info.id] = value
            rounds += 1
            ending.wait(0.02)
        return rounds

    def read(papita: Papita) -> int:
        rounds = 0
        while not ending.is_set() or rounds == 0:
            for number, value in list(made.items())[-20:]:
                info = papita.credentials.get(actor, number)
                assert opened(papita, info) == value
            rounds += 1
            ending.wait(0.02)
        return rounds

    def rotate() -> int:
        try:
            return sum(papitas[1].rotation.rotate_root(OPERATOR).moved for _ in range(2))
        finally:
            ending.set()

    calls: list[Callable[[], int]] = [rotate]
    calls += [lambda papita=papitas[n % 3]: write(papita) for n in range(8)]
    calls += [lambda papita=papitas[n % 3]: read(papita) for n in range(4)]
    results = at_once(calls)
    assert [result for result in results if isinstance(result, Exception)] == []
    states = sorted(roots(house).values())
    assert states == ["active", "retired", "retired"]
    assert under(house) == {active(house)}
    fresh = house.opened()
    listed = {row[0] for row in house.sql("SELECT id FROM credentials")}
    assert listed == made.keys()
    for number, value in made.items():
        assert opened(fresh, fresh.credentials.get(actor, number)) == value
    assert fresh.audit.verify() == []


@both_engines
def test_two_processes_that_rotate_at_once_do_no_harm(house: House):
    _, infos = filled(house)
    other = house.opened()
    calls = [lambda papita=p: papita.rotation.rotate_root(OPERATOR) for p in (house.papita, other)]
    results = at_once(calls)
    refused = [result for result in results if isinstance(result, Exception)]
    assert all(isinstance(error, RotationRunning) for error in refused)
    assert len(refused) < 2
    assert set(roots(house).values()) == {"active", "retired"}
    assert [opened(house.opened(), info) for info in infos] == [secret(n) for n in range(3)]


@both_engines
def test_a_row_that_changes_meanwhile_keeps_what_the_other_wrote(house: House):
    """Compare and swap: a wrapping that was made from an older row is not put over a newer one."""
    actor, (info, *_) = filled(house)
    (table,) = (t for t in sealed_rows.sealed_tables() if t.kind == "credential")
    old_root = active(house)
    with house.papita.database.read() as session:
        rows = table.under(session, old_root, None, 10)
    (row,) = [row for row in rows if row.credential_id == info.id]
    parts = sealed_rows.parts_of(row)
    stale = house.papita.ring.rewrap(old_root, parts, table.context(row))
    house.papita.rotation.rotate_root(OPERATOR)
    with house.papita.database.write() as session:
        assert table.swap(session, [(table.key_of(row), parts, stale)]) == 0
    assert opened(house.papita, info) == secret(0)
    change = ReplaceCredential(secret={"api_key": secret(9)})
    house.papita.credentials.replace(actor, info.id, change, etag=info.etag)
    with house.papita.database.write() as session:
        assert table.swap(session, [(table.key_of(row), parts, stale)]) == 0
    assert opened(house.papita, info) == secret(9)


class Interrupted(Exception):
    pass


@contextmanager
def dying_after(papita: Papita, monkeypatch: pytest.MonkeyPatch, batches: int) -> Iterator[None]:
    """The rotation of a process dies when it has moved so many batches."""
    real, done = papita.rotation._batch, count()

    def batch(*arguments: object) -> object:
        if next(done) >= batches:
            raise Interrupted
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(rotation_module, "BATCH", 2)
        patch.setattr(rotation_module.KeyRotation, "_batch", lambda self, *given: batch(*given))
        with pytest.raises(Interrupted):
            papita.rotation.rotate_root(OPERATOR)
        yield


@both_engines
def test_a_rotation_that_ends_while_one_looks_is_not_taken_for_an_interrupted_one(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    filled(house, 5)
    with dying_after(house.papita, monkeypatch, 1):
        pass
    papita = house.opened()
    assert papita.rotation.progress().state == "interrupted"
    looked = rotation_module.is_taken

    def is_taken(database: Database) -> bool:
        """The row says that there is a rotation by now; here its end comes in between."""
        monkeypatch.setattr(rotation_module, "is_taken", looked)
        papita.rotation.rotate_root(OPERATOR)
        return looked(database)

    monkeypatch.setattr(rotation_module, "is_taken", is_taken)
    assert papita.rotation.progress().state == "idle"


@both_engines
@pytest.mark.parametrize("batches", [0, 1, 2, 4])
def test_whoever_comes_next_goes_on_with_a_rotation_that_was_interrupted(
    house: House, monkeypatch: pytest.MonkeyPatch, batches: int
):
    _, infos = filled(house, 5)
    with dying_after(house.papita, monkeypatch, batches):
        pass
    new = active(house)
    assert sorted(roots(house).values()) == ["active", "retiring"]
    papita = house.opened()
    progress = papita.rotation.progress()
    assert (progress.state, progress.total, progress.problem) == ("interrupted", 9, None)
    assert progress.done == {0: 0, 1: 2, 2: 4, 4: 7}[batches]
    assert [opened(papita, info) for info in infos] == [secret(n) for n in range(5)]
    done = papita.rotation.rotate_root(OPERATOR)
    assert (done.new_kid, done.moved) == (new, 9 - progress.done)
    assert sorted(roots(house).values()) == ["active", "retired"]
    assert [opened(papita, info) for info in infos] == [secret(n) for n in range(5)]


def test_the_start_goes_on_by_itself_and_asks_nobody(house: House, monkeypatch: pytest.MonkeyPatch):
    filled(house, 5)
    with dying_after(house.papita, monkeypatch, 1):
        pass
    papita = house.opened()
    papita.rotation.resume()
    finish(papita)
    assert papita.rotation.progress().state == "idle"
    assert sorted(roots(house).values()) == ["active", "retired"]
    (ended,) = recorded(house, "key.rotated")
    assert ended.event.actor_id is None
    papita.rotation.resume()  # nothing is left
    assert sorted(roots(house).values()) == ["active", "retired"]


def finish(papita: Papita) -> None:
    thread = papita.rotation._thread
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()


def test_a_root_key_that_was_staged_and_no_more_is_put_to_use(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    filled(house)

    def die(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(rotation_module.KeyRotation, "_activate", die)
        with pytest.raises(Interrupted):
            house.papita.rotation.rotate_root(OPERATOR)
    assert sorted(roots(house).values()) == ["active", "staged"]
    papita = house.opened()
    assert not papita.ring.sealed
    assert papita.rotation.progress().state == "interrupted"
    papita.rotation.rotate_root(OPERATOR)
    assert sorted(roots(house).values()) == ["active", "retired"]


def test_a_root_key_that_somebody_else_staged_is_thrown_away(house: House):
    filled(house)
    house.sql(
        "INSERT INTO root_keys (kid, state, canary, created_at)"
        " SELECT :kid, 'staged', canary, created_at FROM root_keys",
        kid="ab" * 16,
    )
    papita = house.opened()
    assert papita.ready() == (True, "ready")
    done = papita.rotation.rotate_root(OPERATOR)
    assert done.problem is None
    assert "ab" * 16 not in roots(house)


@both_engines
def test_a_row_that_cannot_be_read_is_named_and_everything_else_moves(house: House):
    actor, (bad, good, other) = filled(house)
    old = active(house)
    house.sql(
        "UPDATE credential_secrets SET dek_wrapped = blob WHERE credential_id = :id", id=bad.id
    )
    damaged = house.sql("SELECT * FROM credential_secrets WHERE credential_id = :id", id=bad.id)
    done = house.papita.rotation.rotate_root(OPERATOR)
    assert done.problem is not None
    assert bad.id in done.problem
    assert good.id not in done.problem
    assert done.moved == 6
    assert roots(house)[old] == "retiring"
    assert house.sql("SELECT * FROM credential_secrets WHERE credential_id = :id", id=bad.id) == (
        damaged
    )
    assert house.papita.credentials.get(actor, bad.id).status == "unreadable"
    assert [opened(house.papita, info) for info in (good, other)] == [secret(1), secret(2)]
    papita = house.opened()
    assert papita.ready() == (True, "ready")
    progress = papita.rotation.progress()
    assert (progress.state, progress.problem) == ("interrupted", done.problem)
    # It keeps nobody from rotating again ...
    again = papita.rotation.rotate_root(OPERATOR)
    assert (again.moved, again.problem) == (6, done.problem)
    assert sorted(roots(house).values()) == ["active", "retired", "retiring"]
    # ... and when it is replaced, the old root key goes at last.
    change = ReplaceCredential(secret={"api_key": secret(5)})
    papita.credentials.replace(actor, bad.id, change, etag="*")
    last = papita.rotation.rotate_root(OPERATOR)
    assert (last.problem, last.moved) == (None, 0)
    assert sorted(roots(house).values()) == ["active", "retired", "retired"]
    assert len(recorded(house, "credential.unreadable")) == 1


def test_while_it_runs_others_see_it_and_cannot_begin_another(house: House):
    filled(house)
    other = house.opened()
    seen: list[Progress] = []

    def look(_: Progress) -> None:
        seen.append(other.rotation.progress())
        for begin in (
            lambda: other.rotation.rotate_root(OPERATOR),
            lambda: other.rotation.start_root(OPERATOR),
            lambda: other.rotation.rotate_master(OPERATOR),
            lambda: other.rotation.finish_master(OPERATOR),
        ):
            with pytest.raises(RotationRunning):
                begin()
        other.rotation.resume()

    house.papita.rotation.rotate_root(OPERATOR, look)
    assert {(item.state, item.total) for item in seen} == {("running", 7)}
    assert sorted(roots(house).values()) == ["active", "retired"]


@both_engines
def test_a_page_starts_it_and_watches(house: House):
    filled(house)
    before = roots(house)
    with turn(house.papita.database), pytest.raises(RotationRunning):
        house.papita.rotation.start_root(OPERATOR)
    house.papita.rotation.start_root(OPERATOR)
    assert roots(house).items().isdisjoint(before.items())  # whoever looks now sees that it began
    finish(house.papita)
    assert house.papita.rotation.progress() == Progress("idle", 0, 0)
    assert sorted(roots(house).values()) == ["active", "retired"]


def test_who_starts_it_hears_that_it_cannot_begin(house: House, monkeypatch: pytest.MonkeyPatch):
    filled(house)
    before = roots(house)
    out_of_reach = PapitaError("The key service does not answer.")

    def new_root(_: object) -> object:
        raise out_of_reach

    monkeypatch.setattr(KeyRing, "new_root", new_root)
    with pytest.raises(PapitaError) as raised:
        house.papita.rotation.start_root(OPERATOR)
    assert raised.value is out_of_reach
    finish(house.papita)
    assert roots(house) == before
    monkeypatch.undo()
    house.papita.rotation.rotate_root(OPERATOR)
    assert sorted(roots(house).values()) == ["active", "retired"]


def test_a_process_that_ends_stops_between_two_batches(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rotation_module, "BATCH", 1)
    filled(house, 5)
    ending = house.opened()
    begun, go_on = threading.Event(), threading.Event()
    real = rotation_module.KeyRotation._batch

    def batch(self: object, *arguments: object) -> object:
        begun.set()
        go_on.wait(10)
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rotation_module.KeyRotation, "_batch", batch)
    ending.rotation.start_root(OPERATOR)
    assert begun.wait(10)
    closing = threading.Thread(target=ending.close)
    closing.start()
    while not ending.rotation._closing.is_set():
        pass
    go_on.set()
    closing.join(20)
    finish(ending)
    assert house.papita.rotation.progress().state == "interrupted"
    assert house.papita.rotation.progress().done == 1
    house.papita.rotation.rotate_root(OPERATOR)
    assert sorted(roots(house).values()) == ["active", "retired"]


def test_only_who_manages_the_vault_may(house: House):
    actor = house.sign_in("ana")
    coming = LocalMasterKey(bytes(32))
    rotation = house.papita.rotation
    for use in (
        lambda: rotation.rotate_root(actor),
        lambda: rotation.start_root(actor),
        lambda: rotation.rotate_signing(actor),
        lambda: rotation.rotate_audit(actor),
        lambda: rotation.rotate_master(actor),
        lambda: rotation.rotate_master(actor, coming),
        lambda: rotation.finish_master(actor),
    ):
        with pytest.raises(Forbidden):
            use()
    assert list(roots(house).values()) == ["active"]


def test_a_sealed_vault_rotates_nothing(house: House):
    filled(house)
    sealed = house.opened(PAPITA_MASTER_KEY=bytes(32).hex())
    rotation = sealed.rotation
    for use in (
        lambda: rotation.rotate_root(OPERATOR),
        lambda: rotation.start_root(OPERATOR),
        lambda: rotation.rotate_signing(OPERATOR),
        lambda: rotation.rotate_audit(OPERATOR),
        lambda: rotation.rotate_master(OPERATOR),
        lambda: rotation.finish_master(OPERATOR),
    ):
        with pytest.raises(VaultSealed):
            use()
    rotation.resume()
    assert rotation.rotate_signing_if_due() is False
    assert list(roots(house).values()) == ["active"]


# --- the list of tables ---


def test_every_table_with_sealed_values_is_moved():
    """The list is the ORM's, and says so where a new one has not been thought of."""
    listed = {table.model for table in sealed_rows.sealed_tables()}
    assert listed == set(Sealed.__subclasses__())


def test_a_table_that_was_forgotten_is_an_error_and_not_passed_over(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    filled(house)
    entries = {**sealed_rows._TABLES}
    del entries[CredentialSecret]
    monkeypatch.setattr(sealed_rows, "_TABLES", entries)
    with pytest.raises(LookupError, match="CredentialSecret"):
        sealed_rows.sealed_tables()
    with pytest.raises(LookupError, match="CredentialSecret"):
        house.papita.rotation.rotate_root(OPERATOR)
    assert "retired" not in roots(house).values()


# --- what is found at the start ---


@both_engines
def test_rows_that_cannot_be_read_are_found_at_the_start(
    house: House, caplog: pytest.LogCaptureFixture
):
    actor, (bad, good, _) = filled(house)
    swap = (
        "UPDATE credential_secrets SET blob = :blob, dek_wrapped = :dek WHERE credential_id = :id"
    )
    ((blob, dek),) = house.sql(
        "SELECT blob, dek_wrapped FROM credential_secrets WHERE credential_id = :id", id=bad.id
    )
    house.sql(swap, blob=dek, dek=blob, id=bad.id)
    with caplog.at_level(logging.ERROR):
        papita = house.opened()
    assert papita.ready() == (True, "ready")
    assert bad.id in caplog.text
    assert good.id not in caplog.text
    assert papita.credentials.get(actor, bad.id).status == "unreadable"
    assert papita.credentials.get(actor, good.id).status == "untested"
    house.opened()
    assert len(recorded(house, "credential.unreadable")) == 1  # once, not at every start
    house.sql(swap, blob=blob, dek=dek, id=bad.id)
    assert house.opened().credentials.get(actor, bad.id).status == "untested"


def test_retired_and_foreign_root_keys_do_not_seal_the_vault(house: House):
    filled(house)
    house.papita.rotation.rotate_root(OPERATOR)
    house.sql("UPDATE root_keys SET canary = 'x' WHERE state = 'retired'")
    assert house.opened().ready() == (True, "ready")
    for number, state in enumerate(("staged", "retiring")):
        house.sql(
            "INSERT INTO root_keys (kid, state, canary, created_at)"
            " SELECT :kid, :state, canary, created_at FROM root_keys WHERE state = 'active'",
            kid=f"{number:032}",
            state=state,
        )
    assert house.opened().ready() == (True, "ready")


def test_a_row_under_a_root_key_of_another_master_key_is_not_called_damaged(house: House):
    actor, (info, *_) = filled(house)
    house.sql(
        "INSERT INTO root_keys (kid, state, canary, created_at)"
        " SELECT :kid, 'retiring', canary, created_at FROM root_keys",
        kid="ab" * 16,
    )
    house.sql(
        "UPDATE credential_secrets SET kek_kid = :kid WHERE credential_id = :id",
        kid="ab" * 16,
        id=info.id,
    )
    papita = house.opened()
    with pytest.raises(VaultSealed):
        opened(papita, info)
    assert papita.credentials.get(actor, info.id).status == "untested"
    done = papita.rotation.rotate_root(OPERATOR)
    assert done.problem is not None
    assert "master key" in done.problem
    house.sql("DELETE FROM root_keys WHERE kid = :kid", kid="ab" * 16)
    with pytest.raises(SecretUnreadable):
        opened(house.opened(), info)


# --- the signing key ---


@both_engines
def test_the_signing_key_changes_and_old_tokens_stay_good_for_a_day(house: House):
    actor = house.sign_in("ana")
    papita, other = house.papita, house.opened()
    token = papita.user_tokens.issue(actor, "al-chat").token
    (first, second) = (key["kid"] for key in papita.user_tokens.jwks()["keys"])
    old = papita.ring.purpose_key(USER_TOKEN)[0]
    new = papita.rotation.rotate_signing(OPERATOR)
    assert {old, new} == {first, second}
    published = [key["kid"] for key in other.user_tokens.jwks()["keys"]]
    assert len(published) == 3
    assert {old, new} < set(published)
    for one in (papita, other):
        one.user_tokens.verify(token, "al-chat")
    assert signed_by(papita, actor) == new
    # A process with the old key in memory may sign with it for a minute.
    assert signed_by(other, actor) == old
    house.clock.forward(seconds=61)
    assert signed_by(other, actor) == new
    house.clock.forward(hours=25)
    published = [key["kid"] for key in papita.user_tokens.jwks()["keys"]]
    assert old not in published
    assert len(published) == 2
    with pytest.raises(TokenInvalid):
        papita.user_tokens.verify(token, "al-chat")
    third = papita.rotation.rotate_signing(OPERATOR)
    assert third in published
    # The private half of a key that verifies nothing any more is not kept.
    assert house.sql("SELECT kid FROM purpose_keys WHERE kid = :kid", kid=old) == []
    assert [entry.event.details["to"] for entry in recorded(house, "key.signing-rotated")] == [
        third,
        new,
    ]


def signed_by(papita: Papita, actor: Actor) -> str:
    token = papita.user_tokens.issue(actor, "al-chat").token
    return str(jwt.get_unverified_header(token)["kid"])


def test_the_signing_key_changes_by_itself_when_it_is_old(house: House):
    papita = house.opened(PAPITA_SIGNING_KEY_DAYS="30")
    for _ in range(3):
        assert papita.rotation.rotate_signing_if_due() is False
        house.clock.forward(days=29)
        assert papita.rotation.rotate_signing_if_due() is False
        house.clock.forward(days=1, seconds=1)
        assert papita.rotation.rotate_signing_if_due() is True
    house.clock.forward(days=80)
    assert house.papita.rotation.rotate_signing_if_due() is False  # 90 days, if not told
    house.clock.forward(days=11)
    assert house.papita.rotation.rotate_signing_if_due() is True
    assert all(entry.event.actor_id is None for entry in recorded(house, "key.signing-rotated"))


@both_engines
def test_processes_that_find_it_old_at_once_change_it_once(house: House):
    papitas = [house.opened() for _ in range(4)]
    house.clock.forward(days=91)
    results = at_once([papita.rotation.rotate_signing_if_due for papita in papitas])
    assert sorted(results, key=bool) == [False, False, False, True]
    states = [row[0] for row in house.sql("SELECT state FROM purpose_keys ORDER BY state")]
    assert states == ["active", "active", "active", "next", "retired"]


def test_a_next_key_that_cannot_be_read_is_never_put_in_force(house: House):
    """Else the vault would stay sealed at the next start."""
    house.sign_in("ana")
    (bad,) = house.sql("SELECT kid FROM purpose_keys WHERE state = 'next'")[0]
    house.sql("UPDATE purpose_keys SET blob = dek_wrapped WHERE state = 'next'")
    new = house.papita.rotation.rotate_signing(OPERATOR)
    assert new != bad
    assert house.sql("SELECT kid FROM purpose_keys WHERE kid = :kid", kid=bad) == []
    assert house.opened().ready() == (True, "ready")


# --- the key of the audit log ---


@both_engines
def test_the_log_goes_on_with_another_key_and_is_checked_as_a_whole(house: House):
    actor, _ = filled(house)
    stale = house.opened()
    before = house.papita.audit.count()
    new = house.papita.rotation.rotate_audit(OPERATOR)
    house.key(actor)
    stale.credentials.create(actor, NewCredential("openai", {"api_key": secret(8)}))
    rows = house.sql("SELECT key_kid FROM audit_log WHERE stream = 'main' ORDER BY seq")
    assert [row[0] == new for row in rows[before - 1 :]] == [False, False, True, False]
    for papita in (house.papita, stale, house.opened()):
        assert papita.audit.verify() == []
    house.papita.rotation.rotate_root(OPERATOR)
    assert house.opened().audit.verify() == []
    assert len(recorded(house, "key.audit-rotated")) == 1


# --- the master key ---


def slots(house: House) -> set[str]:
    return {row[0] for row in house.sql("SELECT master_kid FROM key_slots")}


@both_engines
def test_a_generated_master_key_is_changed_while_everything_runs(house: House):
    actor, infos = filled(house)
    stale = house.opened()
    path, coming = generated_paths(house.settings())
    old = path.read_text()
    change = house.papita.rotation.rotate_master(OPERATOR)
    assert change.source == "keys/master.key"
    assert path.read_text() != old
    assert path.stat().st_mode & 0o777 == 0o600
    assert not coming.exists()
    assert slots(house) == {change.kid}
    assert len(change.removed) == 1
    for papita in (house.papita, stale, house.opened()):
        assert [opened(papita, info) for info in infos] == [secret(n) for n in range(3)]
        papita.credentials.create(actor, NewCredential("openai", {"api_key": secret(8)}))
    # One that has the old master key in memory finds the new one when it needs it.
    house.papita.rotation.rotate_root(OPERATOR)
    info = stale.credentials.create(actor, NewCredential("openai", {"api_key": secret(9)}))
    assert opened(house.opened(), info) == secret(9)
    stale.rotation.rotate_root(OPERATOR)
    assert slots(house) == {change.kid}
    assert house.opened().ready() == (True, "ready")
    path.write_text(old)
    assert house.opened().ring.sealed  # the old key opens nothing any more
    assert [
        entry.event.action
        for entry in house.papita.audit.entries(OPERATOR, AuditFilter(subject_id=change.kid)).items
    ] == ["key.master-removed", "key.master-added"]


@pytest.mark.parametrize("step", ["next_generated", "add", "put_next_in_force", "use_master"])
@pytest.mark.parametrize("before", [True, False])
def test_between_any_two_steps_the_ring_opens_and_the_command_completes_it(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str, before: bool
):
    _, infos = filled(house)
    place = {"add": master_rotation.MasterRotation, "use_master": type(house.papita.ring)}.get(
        step, master_rotation
    )
    real = getattr(place, step)

    def dying(*arguments: object) -> None:
        if not before:
            real(*arguments)
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(place, step, dying)
        with pytest.raises(Interrupted):
            house.papita.rotation.rotate_master(OPERATOR)
    papita = house.opened()
    assert [opened(papita, info) for info in infos] == [secret(n) for n in range(3)]
    change = papita.rotation.rotate_master(OPERATOR)
    assert slots(house) == {change.kid}
    path, coming = generated_paths(house.settings())
    assert path.exists()
    assert not coming.exists()
    assert [opened(house.opened(), info) for info in infos] == [secret(n) for n in range(3)]


def test_the_key_that_is_to_come_opens_where_the_one_before_does_not(house: House):
    _, infos = filled(house)
    house.papita.rotation.rotate_master(OPERATOR, next_generated(house.settings()))
    path, coming = generated_paths(house.settings())
    path.unlink()
    papita = house.opened()
    assert papita.ready() == (True, "ready")
    assert papita.ring.status.source == "keys/master.key.next"
    change = papita.rotation.rotate_master(OPERATOR)
    assert (path.exists(), coming.exists()) == (True, False)
    assert slots(house) == {change.kid}
    assert opened(house.opened(), infos[0]) == secret(0)


@both_engines
def test_a_key_that_is_given_is_changed_by_adding_restarting_and_finishing(house: House):
    first, second = bytes(range(32)).hex(), bytes(range(1, 33)).hex()
    house.environment["PAPITA_MASTER_KEY"] = first
    _, infos = filled(house)
    with pytest.raises(InvalidInput, match="--to"):
        house.papita.rotation.rotate_master(OPERATOR)
    new = LocalMasterKey(bytes.fromhex(second), "PAPITA_MASTER_KEY_FILE")
    added = house.papita.rotation.rotate_master(OPERATOR, new)
    house.papita.rotation.rotate_master(OPERATOR, new)  # twice is once
    assert added.kid == new.key_id.hex()
    assert len(slots(house)) == 2
    assert house.opened().ready() == (True, "ready")
    restarted = house.opened(PAPITA_MASTER_KEY=second)
    assert opened(restarted, infos[0]) == secret(0)
    finished = restarted.rotation.finish_master(OPERATOR)
    assert finished.removed == (LocalMasterKey(bytes.fromhex(first)).key_id.hex(),)
    assert slots(house) == {added.kid}
    assert house.opened().ring.sealed
    assert house.opened(PAPITA_MASTER_KEY=second).ready() == (True, "ready")
    assert len(recorded(house, "key.master-added")) == 1
    assert len(recorded(house, "key.master-removed")) == 1


def test_a_rotation_of_the_root_key_says_which_master_keys_lose_access(house: House):
    filled(house)
    other = LocalMasterKey(bytes(32))
    house.papita.rotation.rotate_master(OPERATOR, other)
    done = house.papita.rotation.rotate_root(OPERATOR)
    assert done.lost == (other.key_id.hex(),)
    assert slots(house) == {house.papita.ring.status.master_kid}


def test_nothing_is_removed_where_the_key_in_force_does_not_open_everything(house: House):
    filled(house)
    house.papita.rotation.rotate_master(OPERATOR, LocalMasterKey(bytes(32)))
    own = house.papita.ring.status.master_kid
    house.sql("UPDATE key_slots SET wrapped = 'x' WHERE master_kid = :kid", kid=own)
    with pytest.raises(Conflict, match="nothing was removed"):
        house.papita.rotation.finish_master(OPERATOR)
    assert len(slots(house)) == 2


def test_a_slot_that_does_not_give_the_key_back_is_no_slot(house: House):
    filled(house)

    class Lying(LocalMasterKey):
        def wrap(self, root_key: bytes, context: tuple[bytes, ...]) -> bytes:
            return super().wrap(bytes(32), context)

    own = house.papita.ring.status.master_kid
    with pytest.raises(Conflict, match="does not open"):
        house.papita.rotation.rotate_master(OPERATOR, Lying(bytes(32)))
    assert slots(house) == {own}


def test_a_key_file_that_cannot_be_written_changes_nothing(house: House):
    filled(house)
    own = house.papita.ring.status.master_kid
    _, coming = generated_paths(house.settings())
    coming.mkdir()
    with pytest.raises(SettingsError, match=r"master\.key\.next"):
        house.papita.rotation.rotate_master(OPERATOR)
    coming.rmdir()
    assert slots(house) == {own}
    assert house.opened().ready() == (True, "ready")


def test_no_time_passes_unnoticed(house: House):
    """What `keys status` and the page show of the signing keys."""
    house.sign_in("ana")
    made = {key.state: key for key in house.papita.ring.status.purposes}
    house.clock.forward(days=10)
    house.papita.rotation.rotate_signing(OPERATOR)
    found = {
        key.state: key for key in house.papita.ring.status.purposes if key.purpose == USER_TOKEN
    }
    assert found["active"].kid == made["next"].kid
    assert found["active"].since - made["next"].since > timedelta(days=9)
    assert found["active"].created_at == made["next"].created_at
    assert found["retired"].since == found["active"].since
