"""Exchanges of user tokens for project tokens: each makes a lease (RFC 8693)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, insert, null, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import AnyRow, Database, Prepared, among, new_id, table_of
from papita_core.errors import ConsentRequired, PapitaError, ProjectDisabled, TokenRequestRefused
from papita_core.grants.leases import LEASE, signed_in
from papita_core.grants.models import GrantRow
from papita_core.grants.user_tokens import Claims
from papita_core.projects.models import ProjectState
from papita_core.users.models import AccessTokenRow, SessionRow, UserRow
from papita_core.users.tokens import token_hash

LEASE_LIFE = timedelta(minutes=5)
AT_ONCE = 64  # exchanges in one transaction
NOBODYS_FAULT = (OperationalError, NoConnection)


@dataclass(frozen=True, slots=True)
class ProjectToken:
    """What an exchange gives. `expires_in` is in seconds."""

    token: str = field(repr=False)
    lease_id: str
    expires_in: int


@dataclass(slots=True, eq=False)
class Exchange:
    """An exchange whose user token is verified. `token` is what it is to get.

    `taken`: somebody does it, or has done it. `outcome` stays None where it has to be done alone.
    """

    claims: Claims
    project_id: str
    credential_type: str
    request_id: str | None
    token: str = field(repr=False)
    turn: threading.Event = field(default_factory=threading.Event)
    taken: bool = False
    outcome: ProjectToken | Exception | None = None


class Exchanges:
    """Makes leases. Those that are asked for at the same moment share one transaction.

    Whoever finds nobody at work does it, in its own thread, for all that wait; of those that come
    meanwhile the first one does the next round. So there is no thread to start or to close.
    """

    def __init__(
        self, database: Database, audit: AuditLog, idle: timedelta, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._audit = audit
        self._idle = idle
        self._clock = clock
        self._gate = threading.Lock()
        self._waiting: list[Exchange] = []
        self._working = False

    def lease(self, asked: Exchange) -> ProjectToken:
        """Returns once the lease and its audit row are committed. Raises as `exchange`."""
        with self._gate:
            self._waiting.append(asked)
            leads, self._working = not self._working, True
        if not leads:
            asked.turn.wait()
        if not asked.taken:
            self._lead()
        outcome = asked.outcome
        if outcome is None:
            (outcome,) = self._issue([asked], alone=True)
        if isinstance(outcome, ProjectToken):
            return outcome
        raise outcome or PapitaError()

    def _lead(self) -> None:
        """One transaction for those that wait. Then it is the turn of whoever came meanwhile."""
        with self._gate:
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            for item in batch:
                item.taken = True
        try:
            for item, outcome in zip(batch, self._issue(batch, alone=False), strict=True):
                item.outcome = outcome
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            # What may be the fault of one of them is not held against the others: each tries alone.
            if len(batch) == 1 or isinstance(error, NOBODYS_FAULT):
                for item in batch:
                    item.outcome = error
        finally:
            with self._gate:
                if self._waiting:
                    self._waiting[0].turn.set()
                else:
                    self._working = False
            for item in batch:
                item.turn.set()

    def _issue(
        self, batch: Sequence[Exchange], *, alone: bool
    ) -> Sequence[ProjectToken | PapitaError | None]:
        """What becomes of each, in one transaction. None: it has to be done alone.

        On PostgreSQL a transaction waits for rows that somebody holds only where it makes one lease
        alone: waiting while it holds those of others, it could wait for one who waits for it.
        """
        now = self._clock()
        # Whether what is not found is not there, and not just held by somebody.
        sure = alone or self._database.is_sqlite
        outcomes: list[ProjectToken | PapitaError | None] = []
        leases: list[dict[str, Any]] = []
        events: list[Event] = []
        with self._database.write() as session:
            basis = _Basis.read(session, [item.claims for item in batch], hold=not sure)
            for item in batch:
                made = self._decide(item, basis, now, sure=sure)
                if not isinstance(made, dict):
                    outcomes.append(made)
                    continue
                leases.append(made)
                events.append(_issued(made, item.request_id))
                seconds = int(LEASE_LIFE.total_seconds())
                outcomes.append(ProjectToken(item.token, made["id"], seconds))
            if leases:
                _ISSUE.run(session, *leases)
                self._audit.append(session, *events)
        return outcomes

    def _decide(
        self, item: Exchange, basis: _Basis, now: datetime, *, sure: bool
    ) -> dict[str, Any] | PapitaError | None:
        """The row of a lease, or why there is none; None where that is not sure."""
        claims = item.claims
        if item.project_id in basis.off:
            return ProjectDisabled()
        found = basis.sign_ins.get((claims.session_id, claims.access_token_id))
        if found is None:
            return invalid_grant() if sure else None
        if found.user_id != claims.user_id or not signed_in(found, now, self._idle):
            return invalid_grant()
        grant_id = None
        # A token with `projects:launch` carries the consent of whoever made it.
        if claims.access_token_id is None:
            grant_id = basis.grants.get((claims.user_id, item.project_id, item.credential_type))
            if grant_id is None:
                return ConsentRequired() if sure else None
        return {
            "id": new_id(),
            "token_hash": token_hash(item.token),
            "user_id": claims.user_id,
            "project_id": item.project_id,
            "credential_type": item.credential_type,
            "grant_id": grant_id,
            "session_id": claims.session_id,
            "access_token_id": claims.access_token_id,
            "created_at": now,
            "expires_at": now + LEASE_LIFE,
            "revoked_at": None,
        }


@dataclass(frozen=True, slots=True)
class _Basis:
    """What leases are made on: which projects are off, the sign-ins and access tokens by the ids of
    both, and the live grants by user, project and type.
    """

    off: frozenset[str]
    sign_ins: dict[tuple[str | None, str | None], AnyRow]
    grants: dict[tuple[str, str, str], str]

    @classmethod
    def read(cls, session: Session, claims: Sequence[Claims], *, hold: bool) -> _Basis:
        """With `hold`, on PostgreSQL, what is found stays until the end of the transaction, and
        what somebody else holds just now is not found.
        """
        sessions = {one.session_id for one in claims} - {None}
        tokens = {one.access_token_id for one in claims} - {None}
        users = {one.user_id for one in claims if one.session_id is not None}
        off = frozenset(row.project_id for row in _OFF.rows(session, {}))
        found = _SESSIONS[hold].rows(session, {"ids": sessions}) if sessions else []
        found += _TOKENS[hold].rows(session, {"ids": tokens}) if tokens else []
        sign_ins = {(row.session_id, row.access_token_id): row for row in found}
        grants = _GRANTS[hold].rows(session, {"users": users}) if users else []
        return cls(
            off,
            sign_ins,
            {(row.user_id, row.project_id, row.credential_type): row.id for row in grants},
        )


def _issued(lease: dict[str, Any], request_id: str | None) -> Event:
    return Event(
        "lease.issued",
        lease["project_id"],
        lease["user_id"],
        lease["grant_id"],
        lease["project_id"],
        lease["id"],
        request_id,
        details={"type": lease["credential_type"]},
    )


def _free_and_held(query: Select[Any], *of: Table) -> tuple[Prepared, Prepared]:
    """A query by itself, and the same that keeps its rows from being deleted."""
    held = query.with_for_update(read=True, key_share=True, of=of, skip_locked=True)
    return Prepared(query), Prepared(held)


def _sign_ins(table: Table, *columns: ColumnElement[Any]) -> tuple[Prepared, Prepared]:
    """Rows of one kind of sign-in, with these columns and what `signed_in` reads of the user."""
    query = (
        select(table.c.user_id, _USER.c.disabled_at, *columns)
        .join(_USER, _USER.c.id == table.c.user_id)
        .where(among(table.c.id, "ids"))
    )
    return _free_and_held(query, table, _USER)


# Plain tables, and `signed_in` reads the rows of the first two as it reads those of leases.
_SESSION, _TOKEN = table_of(SessionRow), table_of(AccessTokenRow)
_USER, _GRANT = table_of(UserRow), table_of(GrantRow)
_STATE = table_of(ProjectState)
_OFF = Prepared(select(_STATE.c.project_id).where(_STATE.c.disabled_at.is_not(None)))
_SESSIONS = _sign_ins(
    _SESSION,
    _SESSION.c.id.label("session_id"),
    null().label("access_token_id"),
    _SESSION.c.ended_at.label("session_ended_at"),
    _SESSION.c.expires_at.label("session_expires_at"),
    _SESSION.c.last_seen_at.label("session_seen_at"),
)
_TOKENS = _sign_ins(
    _TOKEN,
    null().label("session_id"),
    _TOKEN.c.id.label("access_token_id"),
    _TOKEN.c.revoked_at.label("token_revoked_at"),
    _TOKEN.c.expires_at.label("token_expires_at"),
)
_GRANTS = _free_and_held(
    select(*_GRANT.c["id", "user_id", "project_id", "credential_type"]).where(
        among(_GRANT.c.user_id, "users"), _GRANT.c.revoked_at.is_(None)
    ),
    _GRANT,
)
_ISSUE = Prepared(insert(LEASE))


def invalid_grant() -> TokenRequestRefused:
    return TokenRequestRefused(
        "invalid_grant",
        "The user token is not valid any more. The user has to open the project again.",
    )
