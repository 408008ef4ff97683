"""Lending a key: the one way in which a secret leaves the vault.

Requests that wait at the same time share one transaction: their leases are checked against the live
rows, one audit row is written for each, and only after the commit is anything unsealed. Sharing the
commit is what makes a loan cheap although each one is on the record before it happens. For the same
reason one thread lends, on PostgreSQL too: two would halve what shares a commit, and were measured
to lend a third less.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from sqlalchemy import and_, bindparam, select, update
from sqlalchemy.exc import DBAPIError

from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import AnyRow, Database, Prepared, Within, among, table_of
from papita_core.errors import (
    CredentialNotFound,
    InvalidInput,
    PapitaError,
    SecretUnreadable,
    Unauthenticated,
    VaultSealed,
)
from papita_core.grants.candidates import Found
from papita_core.grants.choosing import SHARED, Choice, choose
from papita_core.grants.leases import LEASE, LEASES, WANTED, lost, need_of
from papita_core.grants.limits import LoanLimit
from papita_core.settings import Settings
from papita_core.usage.budgets import Spending, refusal, spending_of
from papita_core.users.tokens import token_hash
from papita_core.vault.binding import KIND, bound_to
from papita_core.vault.keyring import KeyRing, SealedParts
from papita_core.vault.models import Credential, CredentialSecret

log = logging.getLogger(__name__)
AT_ONCE = 64  # requests in one transaction
USED_EVERY = timedelta(seconds=5)
MAX_RUN_ID = 64


@dataclass(frozen=True, slots=True)
class LoanRequest:
    """Who asks for what. `token` is a project token; `run_id` is the project's name for its run.
    With `base_url`, only a credential for exactly this address is lent.

    Raises `InvalidInput` for a `run_id` that is not 1 to 64 printable ASCII characters.
    """

    token: str = field(repr=False)
    username: str
    credential_type: str
    project_id: str
    request_id: str | None = None
    run_id: str | None = None
    base_url: str | None = None

    def __post_init__(self) -> None:
        run_id = self.run_id
        if run_id is not None and not (
            1 <= len(run_id) <= MAX_RUN_ID and run_id.isascii() and run_id.isprintable()
        ):
            raise InvalidInput(
                {"runId": f"A run is named by 1 to {MAX_RUN_ID} printable ASCII characters."}
            )


@dataclass(frozen=True, slots=True)
class Loan:
    """One credential, unsealed, until `expires_at`; with what is spent, where it has a budget.

    `credential_type` is what it is, which may be another type of the protocol that was asked for.
    """

    credential_id: str
    credential_type: str
    project_id: str | None
    base_url: str | None
    secret: dict[str, str] = field(repr=False)
    lease_id: str
    expires_at: datetime
    spending: Spending | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: LoanRequest
    token_hash: str
    future: Future[Loan]


@dataclass(frozen=True, slots=True)
class _Chosen:
    row: AnyRow
    reason: str
    project_id: str
    lease_id: str
    expires_at: datetime
    spending: Spending | None


_Outcome = _Chosen | PapitaError | None  # None: somebody is changing the lease at this moment
_Queue: TypeAlias = "queue.SimpleQueue[_Waiting | None]"


class Lender:
    """Resolves loans on threads of its own. `close` at the end; a later request opens it again."""

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
        self._idle = timedelta(minutes=settings.session_idle_minutes)
        self._limit = LoanLimit(settings.resolve_limit)
        self._clock = clock
        self._waiting: _Queue = queue.SimpleQueue()
        # Those whose lease somebody is changing just now: whoever waits here holds up nobody.
        self._moving: _Queue = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def resolve(self, request: LoanRequest) -> Future[Loan]:
        """The loan, later. The future raises

        `Unauthenticated` (no live lease), `CredentialNotFound` (another user, type or project than
        the lease's, or nothing stored), `ConsentRequired`, `ProjectDisabled`, `CredentialDisabled`,
        `CredentialExpired`, `BudgetExceeded`, `TooManyAttempts`, `SecretUnreadable` or
        `VaultSealed`.
        """
        waiting = _Waiting(request, token_hash(request.token), Future())
        with self._lock:
            if not self._threads:
                self._start()
            self._waiting.put(waiting)
        return waiting.future

    def close(self) -> None:
        with self._lock:
            # In this order: the first thread may still hand something to the second.
            for waiting, thread in zip(self._queues, self._threads, strict=False):
                waiting.put(None)
                thread.join(timeout=5)
            self._threads = []

    @property
    def _queues(self) -> tuple[_Queue, _Queue]:
        return self._waiting, self._moving

    def _start(self) -> None:
        for name, at_once, waiting in zip(("many", "one"), (AT_ONCE, 1), self._queues, strict=True):
            thread = threading.Thread(
                target=self._work, args=(waiting, at_once), name=f"lender-{name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def _work(self, waiting: _Queue, at_once: int) -> None:
        while (first := waiting.get()) is not None:
            batch = [first]
            stop = False
            while len(batch) < at_once:
                try:
                    more = waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    stop = True
                    break
                batch.append(more)
            self._serve(batch, alone=waiting is self._moving)
            if stop:
                return

    def _serve(self, batch: Sequence[_Waiting], *, alone: bool) -> None:
        outcomes: Sequence[Loan | PapitaError | None]
        try:
            try:
                outcomes = self._lend(batch, alone=alone)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # The server has closed the connection since it was used last: another one will do.
                outcomes = self._lend(batch, alone=alone)
        except Exception as error:
            if not isinstance(error, PapitaError):
                log.exception("lending failed")
                error = PapitaError()
            outcomes = [error] * len(batch)
        for item, outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                self._moving.put(item)
            elif item.future.set_running_or_notify_cancel():
                if isinstance(outcome, Loan):
                    item.future.set_result(outcome)
                else:
                    item.future.set_exception(outcome)

    def _lend(self, batch: Sequence[_Waiting], *, alone: bool) -> list[Loan | PapitaError | None]:
        if self._ring.sealed:
            raise VaultSealed
        with self._database.write_at_once() as connection:
            decided = self._decided(connection, batch, alone, opened=True)
        if decided is None:
            with self._database.write_plainly() as connection:
                decided = self._decided(connection, batch, alone, opened=False) or []
        return [self._unseal(item) if isinstance(item, _Chosen) else item for item in decided]

    def _decided(
        self, connection: Within, batch: Sequence[_Waiting], alone: bool, *, opened: bool
    ) -> list[_Outcome] | None:
        """What becomes of each, on the record. None, and nothing is done, where the record has yet
        to be opened; not `opened`, that is done here.
        """
        now = self._clock()
        hashes = {item.token_hash for item in batch}
        # On PostgreSQL all that has to be read is asked for in one way to the server and back.
        asked_leases = self._ask_leases(connection, hashes, alone=alone)
        asked_found = Found.ask(connection, hashes, {one.request.credential_type for one in batch})
        stream = self._audit.loan_stream()
        asked_head = self._audit.hold(connection, stream) if opened else None
        leases = {row.token_hash: row for row in asked_leases()}
        found = asked_found()
        head = asked_head() if asked_head is not None else None
        if opened and head is None:
            return None
        moving = set() if alone else self._moving_of(connection, hashes - leases.keys())
        outcomes: list[_Outcome] = []
        events: list[Event] = []
        for item in batch:
            if item.token_hash in moving:
                outcomes.append(None)
                continue
            lease = leases.get(item.token_hash)
            outcome = self._decide(item.request, lease, found, now)
            outcomes.append(outcome)
            if lease is not None:
                events.append(_event(item.request, lease, outcome))
        self._touch(connection, outcomes, now)
        if events:
            self._audit.append(connection, *events, stream=stream, head=head)
        return outcomes

    def _ask_leases(
        self, connection: Within, hashes: Collection[str], *, alone: bool
    ) -> Callable[[], list[AnyRow]]:
        """The leases, locked against revocation.

        On PostgreSQL a transaction waits for a revocation only where it asks for one lease alone:
        waiting while it holds others, it could wait for somebody who waits for it.
        """
        if not alone:
            return _UNTOUCHED.ask(connection, {"hashes": hashes})
        _LOCK.rows(connection, {"hashes": hashes})
        return _LOCKED.ask(connection, {"hashes": hashes})

    def _moving_of(self, connection: Within, missing: Collection[str]) -> set[str]:
        """Those of the leases that were not to be had that are just being changed."""
        if not missing or self._database.is_sqlite:
            return set()
        return {row.token_hash for row in _THERE.rows(connection, {"hashes": missing})}

    def _decide(
        self, request: LoanRequest, lease: AnyRow | None, found: Found, now: datetime
    ) -> _Chosen | PapitaError:
        if lease is None:
            return Unauthenticated()
        why = lost(lease, now, self._idle)
        if why is not None:
            return why
        if lease.expires_at <= now:
            return Unauthenticated()
        if (request.username.strip().casefold(), request.credential_type, request.project_id) != (
            lease.username,
            lease.credential_type,
            lease.project_id,
        ):
            return CredentialNotFound()
        # Counted only now: whoever has no lease can use up nobody's loans.
        too_many = self._limit.hit(lease.user_id, lease.project_id)
        if too_many is not None:
            return too_many
        candidates = found.of(lease.user_id)
        if request.base_url is not None:
            wanted = request.base_url.rstrip("/")
            candidates = [one for one in candidates if found.rows[one.id].base_url == wanted]
        choice = choose(candidates, need_of(lease), now)
        if not isinstance(choice, Choice):
            return choice
        row = found.rows[choice.candidate.id]
        spending = spending_of(row, now)
        used_up = refusal(spending, lease.project_id, now)
        if used_up is not None:
            return used_up
        ends = lease.expires_at if row.expires_at is None else min(lease.expires_at, row.expires_at)
        return _Chosen(row, choice.reason, lease.project_id, lease.id, ends, spending)

    def _touch(self, connection: Within, outcomes: Sequence[_Outcome], now: datetime) -> None:
        used: dict[str, set[str]] = {}
        for item in outcomes:
            if isinstance(item, _Chosen) and (
                item.row.last_used_at is None
                or item.row.last_used_by != item.project_id
                or now - item.row.last_used_at >= USED_EVERY
            ):
                used.setdefault(item.project_id, set()).add(item.row.id)
        for project_id, credentials in used.items():
            _USED.run(connection, {"used": credentials, "by": project_id, "now": now})

    def _unseal(self, chosen: _Chosen) -> Loan | PapitaError:
        row = chosen.row
        try:
            secret = self._opened(row)
        except PapitaError as error:
            return error
        return Loan(
            *(row.id, row.credential_type, row.project_id, row.base_url or None, secret),
            *(chosen.lease_id, chosen.expires_at, chosen.spending),
        )

    def _opened(self, row: AnyRow) -> dict[str, str]:
        """The secret. Raises `SecretUnreadable`, and then the row says so, too."""
        parts: SealedParts | None = SealedParts(row.blob, row.dek_wrapped, row.kek_kid)
        tried: set[SealedParts] = set()
        # A rotation may wrap the data key anew between the read and here.
        while parts is not None and parts not in tried:
            tried.add(parts)
            try:
                context = bound_to(
                    row.id, row.owner_id, row.credential_type, row.base_url, row.origin, row.version
                )
                if parts.blob is None:
                    raise SecretUnreadable
                secret: dict[str, str] = self._ring.open(KIND, parts, context)
                return secret
            except SecretUnreadable:
                parts = self._in_force(row)
        log.error("credential %s cannot be read", row.id)
        if parts is not None:
            self._mark_unreadable(row, parts)
        raise SecretUnreadable

    def _in_force(self, row: AnyRow) -> SealedParts | None:
        """How the secret of a row is sealed by now; None where the row has another one or none."""
        with self._database.read() as session:
            found = session.execute(_PARTS.where(_SAME), _as_read(row)).one_or_none()
        return None if found is None else SealedParts(*found)

    def _mark_unreadable(self, row: AnyRow, parts: SealedParts) -> None:
        """Says so on the row, unless something else is there by now or it is said already."""
        with self._database.write() as session:
            query = _PARTS.where(_SAME).with_for_update(of=_CREDENTIAL)
            found = session.execute(query, _as_read(row)).one_or_none()
            if found is None or SealedParts(*found) != parts:
                return
            if session.scalar(_UNREADABLE, {"which": row.id}) is not None:
                self._audit.append(
                    session,
                    Event("credential.unreadable", None, row.owner_id, row.id, row.project_id),
                )


def all_done(loans: Sequence[Future[Loan]]) -> Future[None]:
    """Done with the last of these, at least one; how each went it does not say."""
    last: Future[None] = Future()
    last.set_running_or_notify_cancel()
    left, lock = len(loans), threading.Lock()

    def count(_loan: Future[Loan]) -> None:
        nonlocal left
        with lock:
            left -= 1
            done = left == 0
        if done:
            last.set_result(None)

    for loan in loans:
        loan.add_done_callback(count)
    return last


def _event(request: LoanRequest, lease: AnyRow, outcome: _Outcome) -> Event:
    refusal = outcome.code if isinstance(outcome, PapitaError) else "ok"
    subject, details = None, {}
    if isinstance(outcome, _Chosen):
        subject, details = outcome.row.id, {"version": outcome.row.version}
        if outcome.reason == SHARED:
            details["owner"] = outcome.row.owner_id
    return Event(
        "credential.read",
        actor_id=lease.project_id,
        owner_id=lease.user_id,
        subject_id=subject,
        project_id=lease.project_id,
        lease_id=lease.id,
        request_id=request.request_id,
        run_id=request.run_id,
        outcome=refusal,
        details=details,
    )


def _as_read(row: AnyRow) -> dict[str, object]:
    return {"which": row.id, "version": row.version, "origin": row.origin, "at": row.base_url}


_CREDENTIAL, _SECRET = table_of(Credential), table_of(CredentialSecret)

# A revocation updates the lease: on PostgreSQL the shared lock makes the two wait for each other.
_UNTOUCHED = Prepared(LEASES.where(WANTED).with_for_update(read=True, of=LEASE, skip_locked=True))
_LOCK = Prepared(select(LEASE.c.id).where(WANTED).with_for_update(read=True))
_LOCKED = Prepared(LEASES.where(WANTED))
_THERE = Prepared(select(LEASE.c.token_hash).where(WANTED))

# Rows that somebody else holds just now are left out: when a credential was used last is no reason
# for loans to wait for each other.
_USED = Prepared(
    update(_CREDENTIAL)
    .where(
        _CREDENTIAL.c.id.in_(
            select(_CREDENTIAL.c.id)
            .where(among(_CREDENTIAL.c.id, "used"))
            .with_for_update(key_share=True, skip_locked=True)
        )
    )
    .values(last_used_at=bindparam("now"), last_used_by=bindparam("by"))
)

_PARTS = select(_SECRET.c.blob, _SECRET.c.dek_wrapped, _SECRET.c.kek_kid).select_from(
    _CREDENTIAL.outerjoin(
        _SECRET,
        and_(
            _SECRET.c.credential_id == _CREDENTIAL.c.id,
            _SECRET.c.version == _CREDENTIAL.c.version,
        ),
    )
)
_SAME = and_(
    _CREDENTIAL.c.id == bindparam("which"),
    _CREDENTIAL.c.version == bindparam("version"),
    _CREDENTIAL.c.origin == bindparam("origin"),
    _CREDENTIAL.c.base_url == bindparam("at"),
)
_UNREADABLE = (
    update(_CREDENTIAL)
    .where(_CREDENTIAL.c.id == bindparam("which"), _CREDENTIAL.c.status != "unreadable")
    .values(status="unreadable")
    .returning(_CREDENTIAL.c.id)
)
