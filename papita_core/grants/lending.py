"""Lending a key: the one way in which a secret leaves the vault.

Requests that wait at the same time share one transaction: their leases are checked against the live
rows, one audit row is written for each, and only after the commit is anything unsealed. Sharing the
commit is what makes a loan cheap although each one is on the record before it happens.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, select, update
from sqlalchemy.engine import Row
from sqlalchemy.orm import Session

from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, table_of
from papita_core.errors import (
    ConsentRequired,
    CredentialExpired,
    CredentialNotFound,
    PapitaError,
    SecretUnreadable,
    Unauthenticated,
    VaultSealed,
)
from papita_core.grants.limits import LoanLimit
from papita_core.grants.models import GrantRow, LeaseRow
from papita_core.settings import Settings
from papita_core.users.models import AccessTokenRow, SessionRow, UserRow
from papita_core.users.tokens import token_hash
from papita_core.vault.keyring import KeyRing, SealedParts
from papita_core.vault.models import Credential, CredentialSecret
from papita_core.vault.service import KIND, bound_to

log = logging.getLogger(__name__)
AT_ONCE = 64
AnyRow = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class LoanRequest:
    """Who asks for what. `token` is a project token."""

    token: str = field(repr=False)
    username: str
    credential_type: str
    project_id: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Loan:
    """One credential, unsealed, until `expires_at`."""

    credential_id: str
    credential_type: str
    project_id: str | None
    base_url: str
    secret: dict[str, str] = field(repr=False)
    lease_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Chosen:
    row: AnyRow
    loan: Loan


class Lender:
    """Resolves loans on a thread of its own. `start` before use, `close` at the end."""

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
        self._waiting: queue.SimpleQueue[tuple[LoanRequest, Future[Loan]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def resolve(self, request: LoanRequest) -> Future[Loan]:
        """The loan, later. The future raises

        `Unauthenticated` (no live lease), `CredentialNotFound` (another user, type or project than
        the lease's, or nothing stored), `ConsentRequired`, `CredentialExpired`, `SecretUnreadable`
        or `VaultSealed`.
        """
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="lender", daemon=True)
                self._thread.start()
        loan: Future[Loan] = Future()
        self._waiting.put((request, loan))
        return loan

    def close(self) -> None:
        with self._lock:
            if self._thread is not None:
                self._waiting.put(None)
                self._thread.join(timeout=5)
                self._thread = None

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            stop = False
            while len(batch) < AT_ONCE:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    stop = True
                    break
                batch.append(more)
            self._serve(batch)
            if stop:
                return

    def _serve(self, batch: Sequence[tuple[LoanRequest, Future[Loan]]]) -> None:
        try:
            outcomes = self._lend([request for request, _ in batch])
        except Exception as error:
            if not isinstance(error, PapitaError):
                log.exception("lending failed")
                error = PapitaError()
            outcomes = [error] * len(batch)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(outcome, Loan):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

    def _lend(self, requests: Sequence[LoanRequest]) -> list[Loan | PapitaError]:
        if self._ring.sealed:
            raise VaultSealed
        with self._database.write() as session:
            leases = self._leases(session, requests)
            credentials = self._credentials(session, leases.values())
            chosen: list[_Chosen | PapitaError] = []
            events: list[Event] = []
            for request in requests:
                lease = leases.get(token_hash(request.token))
                outcome = self._decide(request, lease, credentials)
                chosen.append(outcome)
                if lease is not None:
                    events.append(_event(request, lease, outcome))
            if events:
                self._audit.append(session, *events)
            self._touch(session, chosen)
        return [item if isinstance(item, PapitaError) else self._unseal(item) for item in chosen]

    def _leases(self, session: Session, requests: Sequence[LoanRequest]) -> dict[str, AnyRow]:
        rows = session.execute(
            _LEASES, {"hashes": list({token_hash(request.token) for request in requests})}
        ).all()
        return {row.token_hash: row for row in rows}

    def _credentials(self, session: Session, leases: Any) -> dict[tuple[str, str], list[AnyRow]]:
        owners = list({lease.user_id for lease in leases})
        found: dict[tuple[str, str], list[AnyRow]] = {}
        if owners:
            for row in session.execute(_CREDENTIALS, {"owners": owners}):
                found.setdefault((row.owner_id, row.credential_type), []).append(row)
        return found

    def _decide(
        self,
        request: LoanRequest,
        lease: AnyRow | None,
        credentials: dict[tuple[str, str], list[AnyRow]],
    ) -> _Chosen | PapitaError:
        now = self._clock()
        if lease is None:
            return Unauthenticated()
        if lease.grant_id is not None and lease.grant_revoked_at is not None:
            return ConsentRequired()
        if lease.revoked_at is not None or lease.expires_at <= now or not self._rests(lease, now):
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
        fitting = [
            row
            for row in credentials.get((lease.user_id, lease.credential_type), [])
            if row.project_id in (None, lease.project_id)
        ]
        live = [row for row in fitting if row.expires_at is None or row.expires_at > now]
        if not live:
            return CredentialExpired() if fitting else CredentialNotFound()
        # The project's own before one for all projects; the one changed last before older ones.
        row = max(live, key=lambda item: (item.project_id is not None, item.updated_at, item.id))
        ends = lease.expires_at if row.expires_at is None else min(lease.expires_at, row.expires_at)
        return _Chosen(
            row,
            Loan(row.id, row.credential_type, row.project_id, row.base_url, {}, lease.id, ends),
        )

    def _rests(self, lease: AnyRow, now: datetime) -> bool:
        if lease.disabled_at is not None:
            return False
        if lease.session_id is not None:
            return (
                lease.session_ended_at is None
                and lease.session_expires_at is not None
                and bool(lease.session_expires_at > now)
                and bool(lease.session_seen_at > now - self._idle)
            )
        return (
            lease.access_token_id is not None
            and lease.token_revoked_at is None
            and (lease.token_expires_at is None or bool(lease.token_expires_at > now))
        )

    def _touch(self, session: Session, chosen: Sequence[_Chosen | PapitaError]) -> None:
        used = {item.row.id for item in chosen if isinstance(item, _Chosen)}
        if used:
            session.execute(_USED, {"used": list(used), "now": self._clock()})

    def _unseal(self, chosen: _Chosen) -> Loan | PapitaError:
        row, loan = chosen.row, chosen.loan
        try:
            context = bound_to(
                row.id, row.owner_id, row.credential_type, row.base_url, row.origin, row.version
            )
            if row.blob is None:
                raise SecretUnreadable
            secret = self._ring.open(
                KIND, SealedParts(row.blob, row.dek_wrapped, row.kek_kid), context
            )
        except PapitaError as error:
            log.error("credential %s cannot be read: %s", row.id, error.code)
            if isinstance(error, SecretUnreadable):
                self._mark_unreadable(row)
            return error
        return Loan(
            loan.credential_id,
            loan.credential_type,
            loan.project_id,
            loan.base_url,
            secret,
            loan.lease_id,
            loan.expires_at,
        )

    def _mark_unreadable(self, row: AnyRow) -> None:
        with self._database.write() as session:
            session.execute(
                update(Credential).where(Credential.id == row.id).values(status="unreadable")
            )
            self._audit.append(
                session,
                Event("credential.unreadable", None, row.owner_id, row.id, row.project_id),
            )


def _event(request: LoanRequest, lease: AnyRow, outcome: _Chosen | PapitaError) -> Event:
    refusal = outcome if isinstance(outcome, PapitaError) else None
    row = outcome.row if isinstance(outcome, _Chosen) else None
    return Event(
        "credential.read",
        actor_id=lease.project_id,
        owner_id=lease.user_id,
        subject_id=row.id if row else None,
        project_id=lease.project_id,
        lease_id=lease.id,
        request_id=request.request_id,
        outcome=refusal.code if refusal else "ok",
        details={"version": row.version} if row else {},
    )


# Plain tables: a loan is too frequent for what the mapper does around each statement.
_LEASE, _USER, _GRANT = table_of(LeaseRow), table_of(UserRow), table_of(GrantRow)
_SESSION, _TOKEN = table_of(SessionRow), table_of(AccessTokenRow)
_CREDENTIAL, _SECRET = table_of(Credential), table_of(CredentialSecret)

_LEASES = (
    select(
        _LEASE.c.id,
        _LEASE.c.token_hash,
        _LEASE.c.user_id,
        _LEASE.c.project_id,
        _LEASE.c.credential_type,
        _LEASE.c.grant_id,
        _LEASE.c.session_id,
        _LEASE.c.access_token_id,
        _LEASE.c.expires_at,
        _LEASE.c.revoked_at,
        _USER.c.username,
        _USER.c.disabled_at,
        _GRANT.c.revoked_at.label("grant_revoked_at"),
        _SESSION.c.ended_at.label("session_ended_at"),
        _SESSION.c.expires_at.label("session_expires_at"),
        _SESSION.c.last_seen_at.label("session_seen_at"),
        _TOKEN.c.revoked_at.label("token_revoked_at"),
        _TOKEN.c.expires_at.label("token_expires_at"),
    )
    .select_from(_LEASE)
    .join(_USER, _USER.c.id == _LEASE.c.user_id)
    .outerjoin(_GRANT, _GRANT.c.id == _LEASE.c.grant_id)
    .outerjoin(_SESSION, _SESSION.c.id == _LEASE.c.session_id)
    .outerjoin(_TOKEN, _TOKEN.c.id == _LEASE.c.access_token_id)
    .where(_LEASE.c.token_hash.in_(bindparam("hashes", expanding=True)))
    # A revocation updates the lease: on PostgreSQL this makes the two wait for each other.
    .with_for_update(read=True, of=_LEASE)
)

_CREDENTIALS = (
    select(
        _CREDENTIAL.c.id,
        _CREDENTIAL.c.owner_id,
        _CREDENTIAL.c.credential_type,
        _CREDENTIAL.c.project_id,
        _CREDENTIAL.c.base_url,
        _CREDENTIAL.c.origin,
        _CREDENTIAL.c.version,
        _CREDENTIAL.c.expires_at,
        _CREDENTIAL.c.updated_at,
        _SECRET.c.blob,
        _SECRET.c.dek_wrapped,
        _SECRET.c.kek_kid,
    )
    .select_from(_CREDENTIAL)
    .outerjoin(
        _SECRET,
        and_(
            _SECRET.c.credential_id == _CREDENTIAL.c.id,
            _SECRET.c.version == _CREDENTIAL.c.version,
        ),
    )
    .where(_CREDENTIAL.c.owner_id.in_(bindparam("owners", expanding=True)))
)

_USED = (
    update(_CREDENTIAL)
    .where(_CREDENTIAL.c.id.in_(bindparam("used", expanding=True)))
    .values(last_used_at=bindparam("now"))
)
