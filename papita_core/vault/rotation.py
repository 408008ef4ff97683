"""Changing keys while everything runs.

A root key is staged, read back, activated in one transaction, and then every data key is wrapped
anew in small batches; the old one is retired when nothing is left under it. Which rows are still
under it is the only record of how far the work is, so a kill at any point loses nothing and
whoever comes next goes on. A row that cannot be read is left as it is, named, and keeps the old
root key from being retired.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, table_of
from papita_core.errors import PapitaError, RotationRunning, SecretUnreadable
from papita_core.settings import Settings
from papita_core.vault.keyring import AUDIT, USER_TOKEN, KeyRing
from papita_core.vault.master_key import MasterKey
from papita_core.vault.master_rotation import MasterChange, MasterRotation
from papita_core.vault.models import Credential, CredentialSecret, KeySlot, PurposeKey, RootKey
from papita_core.vault.sealed_rows import (
    UNREADABLE,
    SealedTable,
    mark_unreadable,
    parts_of,
    sealed_tables,
)
from papita_core.vault.turn import is_taken, turn

log = logging.getLogger(__name__)

BATCH = 100  # rows in one transaction
KEPT = timedelta(days=1)  # a retired signing key verifies for so long, and then may go
MOST_NAMES = 20
PATIENCE = 5
T = TypeVar("T")

_ROOT, _SLOT, _PURPOSE = table_of(RootKey), table_of(KeySlot), table_of(PurposeKey)
_SECRET, _CREDENTIAL = table_of(CredentialSecret), table_of(Credential)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rotation of the root key is. `state` is idle, running or interrupted.

    `done` and `total` count sealed rows. `problem` says what keeps the old root key in use.
    """

    state: str
    done: int
    total: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation of the root key did.

    `moved` counts the rows wrapped anew. `lost` are master keys that had a slot for the old root
    key and have none for the new one: this process does not hold them.
    """

    new_kid: str
    moved: int
    lost: tuple[str, ...]
    problem: str | None = None


OnProgress = Callable[[Progress], None]


class KeyRotation:
    """Rotates the keys of the ring. Every call needs `vault:manage`; `close` at the end."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        audit: AuditLog,
        settings: Settings,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._ring = ring
        self._audit = audit
        self._clock = clock
        self._signing_days = timedelta(days=settings.signing_key_days)
        self._masters = MasterRotation(database, ring, audit, settings)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    # --- the root key ---

    def rotate_root(self, actor: Actor, on_progress: OnProgress | None = None) -> Rotated:
        """Makes a new root key and moves every sealed value to it, or finishes what was begun.

        Returns when it is done. Raises `RotationRunning` and `VaultSealed`.
        """
        actor.require("vault:manage")
        with turn(self._database):
            return self._rotate(actor.user_id, on_progress or _unseen)

    def start_root(self, actor: Actor) -> None:
        """The same on a thread; returns once the new root key is in force and rows are moving.

        Raises `RotationRunning`, and what went wrong before that; what goes wrong later is in
        `progress` and in the log.
        """
        actor.require("vault:manage")
        self._ring.master  # noqa: B018 - raises while the vault is sealed
        error = self._start(lambda on_progress: self._rotate(actor.user_id, on_progress))
        if error is not None:
            raise error

    def resume(self) -> None:
        """Finishes, on a thread, a rotation that was interrupted. Does nothing if there is none."""
        if self._ring.sealed or not self._begun():
            return
        error = self._start(lambda on_progress: self._finish_begun(None, on_progress))
        if isinstance(error, RotationRunning):
            log.info("a rotation of the root key is going on elsewhere")

    def progress(self) -> Progress:
        """How far it is, whichever process does it."""
        while True:
            with self._database.read() as session:
                begun = _begun(session)
                if not begun:
                    return Progress("idle", 0, 0)
                retiring = [kid for kid, state in begun if state == "retiring"]
                total, left = _count(session), _count(session, retiring)
                stuck = self._stuck(session, retiring)
            if is_taken(self._database):
                return Progress("running", total - left, total, stuck)
            # It may have begun or ended between the two looks.
            if self._begun() == begun:
                return Progress("interrupted", total - left, total, stuck)

    def close(self) -> None:
        """Stops between two batches; the next start goes on from there."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _start(self, work: Callable[[OnProgress], Any]) -> Exception | None:
        """Returns when the work has told of progress, or what it failed with before that."""
        failed: list[Exception] = []
        ready = threading.Event()

        def run() -> None:
            try:
                with turn(self._database):
                    work(lambda _: ready.set())
            except RotationRunning as error:
                failed.append(error)
            except _Stopped:
                log.info("the rotation of the root key stops here and goes on at the next start")
            except PapitaError as error:
                log.error("the rotation of the root key was interrupted: %s", error)
                if not ready.is_set():
                    failed.append(error)
            except Exception as error:
                log.exception("the rotation of the root key was interrupted")
                if not ready.is_set():
                    failed.append(error)
            finally:
                ready.set()

        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return RotationRunning()
            self._thread = threading.Thread(target=run, name="rotation", daemon=True)
            self._thread.start()
            ready.wait()
        return failed[0] if failed else None

    def _rotate(self, actor_id: str | None, on_progress: OnProgress) -> Rotated:
        self._ring.reload()
        begun = self._finish_begun(actor_id, on_progress)
        if begun is not None and (begun.moved or begun.problem is None):
            return begun
        # Nothing was begun; or all that could be moved was moved long since, and what is left
        # cannot be read: that is no reason to keep the present root key.
        self._stage()
        done = self._finish_begun(actor_id, on_progress)
        if done is None:
            raise PapitaError(
                "The new root key could not be read back from the database, so nothing was changed."
                " Look at the log, and try again."
            )
        return done

    def _begun(self) -> list[Any]:
        with self._database.read() as session:
            return _begun(session)

    def _finish_begun(self, actor_id: str | None, on_progress: OnProgress) -> Rotated | None:
        """Activates what is staged and moves all rows. None where nothing was begun."""
        for row in self._begun():
            if row.state == "staged":
                self._activate(actor_id, row.kid)
        retiring = [row.kid for row in self._begun() if row.state == "retiring"]
        if not retiring:
            return None
        moved, lost, skipped = 0, self._lost(retiring), list[str]()
        with self._database.read() as session:
            total, left = _count(session), _count(session, retiring)
        done = total - left
        on_progress(Progress("running", done, total))
        for kid in retiring:
            here = 0
            for count in self._move(kid, skipped):
                here += count
                on_progress(Progress("running", done + moved + here, total))
            moved += here
            self._patiently(self._retire, actor_id, kid, here)
        with self._database.read() as session:
            new_kid = session.scalar(select(_ROOT.c.kid).where(_ROOT.c.state == "active")) or ""
            problem = self._stuck(session, retiring)
        if skipped and not problem:
            problem = f"Rows that cannot be read: {', '.join(skipped[:MOST_NAMES])}."
        if problem:
            log.error("the rotation of the root key is not complete: %s", problem)
        return Rotated(new_kid, moved, lost, problem)

    def _stage(self) -> None:
        root, slot = self._ring.new_root()  # may ask a key service, so before the transaction
        with self._database.write() as session:
            session.add(root)
            session.flush()
            session.add(slot)

    def _activate(self, actor_id: str | None, kid: str) -> None:
        # Opened from what the database holds: nothing is sealed under a key that is not there.
        self._ring.reload()
        if not self._ring.knows(kid):
            # Staged by a process with another master key. Nothing was ever sealed with it.
            with self._database.write() as session:
                session.execute(delete(_ROOT).where(_ROOT.c.kid == kid, _ROOT.c.state == "staged"))
            return
        with suppress(_Faster), self._database.write() as session:
            # Whoever comes later finds the new one.
            self._ring.wait_for_sealers(session)
            old = self._change(session, _ROOT.c.state == "active", "retiring")
            new = self._change(session, _ROOT.c.kid == kid, "active", "staged")
            details = {"from": old, "to": new}
            self._audit.append(
                session,
                Event("key.rotation-started", actor_id, subject_id=new, details=details),
            )

    def _change(self, session: Session, which: Any, state: str, before: str | None = None) -> str:
        statement = update(_ROOT).where(which).values(state=state).returning(_ROOT.c.kid)
        if before is not None:
            statement = statement.where(_ROOT.c.state == before)
        kid = session.scalar(statement)
        if kid is None:
            raise _Faster
        return str(kid)

    def _lost(self, retiring: Sequence[str]) -> tuple[str, ...]:
        with self._database.read() as session:
            active = select(_ROOT.c.kid).where(_ROOT.c.state == "active").scalar_subquery()
            kept = select(_SLOT.c.master_kid).where(_SLOT.c.root_kid == active)
            lost = session.scalars(
                select(_SLOT.c.master_kid)
                .where(_SLOT.c.root_kid.in_(retiring), _SLOT.c.master_kid.not_in(kept))
                .distinct()
            )
            return tuple(sorted(lost))

    def _move(self, kid: str, skipped: list[str]) -> Iterator[int]:
        """Moves what is under a root key to the active one; yields how many, batch by batch.

        The names of rows that cannot be read go into `skipped`.
        """
        if not self._ring.knows(kid):
            return
        for table in sealed_tables():
            after: tuple[Any, ...] | None = None
            while True:
                if self._closing.is_set():
                    raise _Stopped
                begun = time.monotonic()
                moved, unreadable, last = self._patiently(self._batch, table, kid, after)
                if table.model is CredentialSecret and unreadable:
                    with self._database.write() as session:
                        mark_unreadable(session, self._audit, unreadable)
                for row in unreadable:
                    log.error("%s cannot be read", table.name_of(row))
                    skipped.append(table.name_of(row))
                yield moved
                if last is None:
                    break
                after = last
                # As long again for everybody else: a writer has the whole of SQLite for itself.
                time.sleep(max(0.001, min(time.monotonic() - begun, 0.5)))

    def _patiently(self, work: Callable[..., T], *arguments: Any) -> T:
        """Once more where SQLite was so busy with other processes that it gave up waiting."""
        for _ in range(PATIENCE):
            try:
                return work(*arguments)
            except OperationalError as error:
                if "locked" not in str(error.orig):
                    raise
        return work(*arguments)

    def _batch(
        self, table: SealedTable, kid: str, after: tuple[Any, ...] | None
    ) -> tuple[int, list[Any], tuple[Any, ...] | None]:
        """How many rows were moved, those that cannot be read, and where to go on, if anywhere."""
        changes, unreadable = [], []
        with self._database.write() as session:
            active = self._ring.active_in(session)
            rows = table.under(session, kid, after, BATCH)
            for row in rows:
                old = parts_of(row)
                try:
                    new = self._ring.rewrap(active, old, table.context(row), session)
                except SecretUnreadable:
                    unreadable.append(row)
                else:
                    changes.append((table.key_of(row), old, new))
            moved = table.swap(session, changes)
        return moved, unreadable, table.key_of(rows[-1]) if len(rows) == BATCH else None

    def _retire(self, actor_id: str | None, kid: str, moved: int) -> None:
        with self._database.write() as session:
            if _count(session, [kid]):
                return
            retired = session.scalar(
                update(_ROOT)
                .where(_ROOT.c.kid == kid, _ROOT.c.state == "retiring")
                .values(state="retired", retired_at=self._clock())
                .returning(_ROOT.c.kid)
            )
            if retired is None:
                return
            session.execute(delete(_SLOT).where(_SLOT.c.root_kid == kid))
            new = session.scalar(select(_ROOT.c.kid).where(_ROOT.c.state == "active"))
            details = {"from": kid, "to": new, "rows": moved}
            self._audit.append(
                session, Event("key.rotated", actor_id, subject_id=new, details=details)
            )

    def _stuck(self, session: Session, retiring: Sequence[str]) -> str | None:
        """What keeps root keys from being retired, beside rows that still have to be moved."""
        shut = [kid for kid in retiring if not self._ring.knows(kid)]
        if shut and not self._ring.sealed:
            return (
                f"The root key {shut[0]} does not open with the master key in force."
                " Start with the one that opens it, and run keys rotate again."
            )
        ids = session.scalars(
            select(_SECRET.c.credential_id)
            .join(_CREDENTIAL, _CREDENTIAL.c.id == _SECRET.c.credential_id)
            .where(_SECRET.c.kek_kid.in_(retiring), _CREDENTIAL.c.status == UNREADABLE)
            .order_by(_SECRET.c.credential_id)
            .limit(MOST_NAMES)
        ).all()
        if ids:
            return (
                f"Credentials that cannot be read: {', '.join(ids)}. Replace or delete them, then"
                " rotate again; the old root key stays until then."
            )
        return None

    # --- keys with one use ---

    def rotate_signing(self, actor: Actor) -> str:
        """Signs user tokens with the next key from now on. The id of the key.

        What the last one has signed stays good for a day. Raises `RotationRunning` and
        `VaultSealed`.
        """
        actor.require("vault:manage")
        kid = self._change_signing(actor.user_id, None)
        if kid is None:
            raise RotationRunning
        return kid

    def rotate_signing_if_due(self) -> bool:
        """The same, if the key has been in use for PAPITA_SIGNING_KEY_DAYS. Cheap if not."""
        if self._ring.sealed:
            return False
        self._ring.refresh()
        due = self._clock() - self._signing_days
        with self._database.read() as session:
            if _signing_since(session) > due:
                return False
        return self._change_signing(None, due) is not None

    def _change_signing(self, actor_id: str | None, due: datetime | None) -> str | None:
        now = self._clock()
        with self._database.write() as session:
            old = self._locked(session, USER_TOKEN)
            if old is None or (due is not None and _signing_since(session) > due):
                return None  # another process was faster
            new = self._next_signing(session)
            session.execute(
                delete(_PURPOSE).where(
                    _PURPOSE.c.purpose == USER_TOKEN,
                    _PURPOSE.c.state == "retired",
                    _PURPOSE.c.retired_at <= now - KEPT,
                )
            )
            _set_state(session, old, "retired", now)
            _set_state(session, new, "active", None)
            self._ring.new_purpose_key(session, USER_TOKEN, "next")
            session.flush()
            details = {"from": old, "to": new}
            self._audit.append(
                session, Event("key.signing-rotated", actor_id, subject_id=new, details=details)
            )
        self._ring.reload()
        return new

    def _next_signing(self, session: Session) -> str:
        """The key that is published as the next one; a fresh one where that cannot be read."""
        kid = session.scalar(
            select(_PURPOSE.c.kid)
            .where(_PURPOSE.c.purpose == USER_TOKEN, _PURPOSE.c.state == "next")
            .order_by(_PURPOSE.c.created_at)
        )
        if kid is not None:
            try:
                self._ring.purpose_key_by_id(session, kid)
            except SecretUnreadable:
                log.error(
                    "the next signing key %s cannot be read; a fresh one takes its place", kid
                )
                session.execute(delete(_PURPOSE).where(_PURPOSE.c.kid == kid))
            else:
                return str(kid)
        kid = self._ring.new_purpose_key(session, USER_TOKEN, "next")
        session.flush()
        return kid

    def rotate_audit(self, actor: Actor) -> str:
        """Continues the audit log with a fresh key. The id of the key.

        Earlier rows are still checked with the key that they name.
        """
        actor.require("vault:manage")
        with self._database.write() as session:
            old = self._locked(session, AUDIT)
            if old is None:
                raise RotationRunning
            new = self._ring.new_purpose_key(session, AUDIT)
            session.flush()
            _set_state(session, old, "retired", self._clock())
            details = {"from": old, "to": new}
            # Still with the old key, which so vouches for the new one.
            self._audit.append(
                session,
                Event("key.audit-rotated", actor.user_id, subject_id=new, details=details),
            )
        self._ring.reload()
        return new

    def _locked(self, session: Session, purpose: str) -> str | None:
        """The active key of a purpose, which nobody else replaces until this commits."""
        self._ring.active_in(session)  # raises while the vault is sealed
        return session.scalar(
            select(_PURPOSE.c.kid)
            .where(_PURPOSE.c.purpose == purpose, _PURPOSE.c.state == "active")
            .with_for_update()
        )

    # --- the master key ---

    def rotate_master(self, actor: Actor, new: MasterKey | None = None) -> MasterChange:
        """Changes a generated master key for another; with `new`, lets that one open the ring, too.

        In the second case Papita has then to be started with `new`, and `finish_master` takes the
        slots of the one before away. Raises `InvalidInput` where the key in force is not a
        generated one and no other is given, `Conflict`, `RotationRunning` and `VaultSealed`.
        """
        actor.require("vault:manage")
        with turn(self._database):
            self._ring.reload()
            if new is None:
                return self._masters.change_generated(actor.user_id)
            return self._masters.add(actor.user_id, new)

    def finish_master(self, actor: Actor) -> MasterChange:
        """From now on nothing but the master key in force opens the ring."""
        actor.require("vault:manage")
        with turn(self._database):
            self._ring.reload()
            return self._masters.remove_others(actor.user_id)


def _begun(session: Session) -> list[Any]:
    """The root keys that are staged or retiring, oldest first."""
    return list(
        session.execute(
            select(_ROOT.c.kid, _ROOT.c.state)
            .where(_ROOT.c.state.in_(("staged", "retiring")))
            .order_by(_ROOT.c.created_at)
        )
    )


def _count(session: Session, kids: Sequence[str] | None = None) -> int:
    """How many rows are sealed, or are sealed under these root keys."""
    total = 0
    for table in sealed_tables():
        query = select(func.count()).select_from(table_of(table.model))
        if kids is not None:
            query = query.where(table.kek_kid.in_(kids))
        total += session.scalar(query) or 0
    return total


def _signing_since(session: Session) -> datetime:
    """Since when the active signing key has been in use."""
    rows = session.execute(
        select(_PURPOSE.c.state, _PURPOSE.c.created_at, _PURPOSE.c.retired_at).where(
            _PURPOSE.c.purpose == USER_TOKEN
        )
    ).all()
    moments = [row.created_at for row in rows if row.state == "active"]
    since: datetime = max(
        [*moments, *(row.retired_at for row in rows if row.retired_at is not None)]
    )
    return since


def _set_state(session: Session, kid: str, state: str, retired_at: datetime | None) -> None:
    session.execute(
        update(_PURPOSE).where(_PURPOSE.c.kid == kid).values(state=state, retired_at=retired_at)
    )


def _unseen(progress: Progress) -> None:
    pass


class _Stopped(Exception):
    """The process is about to end."""


class _Faster(Exception):
    """Another process did the same at the same moment."""
