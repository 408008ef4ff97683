"""Sign-in sessions that live on the server.

A sign-in makes a session and a ticket that serves once within a minute; the browser trades the
ticket for a random handle in a cookie. Only hashes of both are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, Prepared, new_id, table_of
from papita_core.errors import SignInRefused, TicketRefused, Unauthenticated
from papita_core.grants.models import LeaseRow
from papita_core.settings import Settings
from papita_core.users.events import note
from papita_core.users.limits import network_of
from papita_core.users.models import PolicyRow, PreferenceRow, SessionRow, UserRow
from papita_core.users.policies import SECOND_FACTOR, requires_second_factor
from papita_core.users.preferences import APPEARANCE, AS_IT_COMES, Appearance
from papita_core.users.tokens import new_token, token_hash

TICKET_LIFE = timedelta(seconds=60)
SEEN_EVERY = timedelta(seconds=60)
# Why a session ended, in the audit log.
SIGNED_OUT, ELSEWHERE = "signed-out", "ended-elsewhere"
METHODS = ("password", "passkey", "oidc", "invitation", "password-reset", "set-up")
# These prove two factors at once, or leave the second one to the provider.
STRONG_METHODS = ("passkey", "oidc")


@dataclass(frozen=True, slots=True)
class ProviderSession:
    """What an identity provider calls the session that began there."""

    issuer: str
    subject: str
    sid: str | None


@dataclass(frozen=True, slots=True)
class SignInSession:
    """A live session and the user it belongs to.

    `method` is one of METHODS. `restricted`: a second factor is required, and was not shown.
    `appearance` is how the user wants the pages to look.
    `renewing`: rights were raised, and the browser has not taken the fresh handle yet.
    """

    id: str
    user_id: str
    username: str
    display_name: str
    role: str
    address: str
    user_agent: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    method: str
    second_factor: str | None
    proved_at: datetime | None
    remember: bool
    handle_hash: str | None = field(default=None, repr=False, kw_only=True)
    renewing: bool = field(default=False, kw_only=True)
    restricted: bool = False
    appearance: Appearance = AS_IT_COMES


@dataclass(frozen=True, slots=True)
class NewSession:
    session: SignInSession
    ticket: str = field(repr=False)


class SessionService:
    def __init__(
        self, database: Database, audit: AuditLog, settings: Settings, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._audit = audit
        self._idle = timedelta(minutes=settings.session_idle_minutes)
        self._absolute = timedelta(days=settings.session_days)
        self._not_kept = timedelta(hours=settings.session_hours)
        self._clock = clock

    def start(
        self,
        user_id: str,
        *,
        address: str = "",
        user_agent: str = "",
        method: str = "password",
        second_factor: str | None = None,
        remember: bool = True,
        provider: ProviderSession | None = None,
    ) -> NewSession:
        """A fresh session and the ticket for its cookie. `remember`: beyond the browser's end.

        Raises `SignInRefused` for a user who is disabled or waits for approval.
        """
        now, ticket = self._clock(), new_token()
        with self._database.write() as session:
            row = SessionRow(
                id=new_id(),
                user_id=user_id,
                handle_hash=None,
                ticket_hash=token_hash(ticket),
                ticket_expires_at=now + TICKET_LIFE,
                address=address[:64],
                network=network_of(address),
                user_agent=user_agent[:300],
                created_at=now,
                last_seen_at=now,
                expires_at=now + (self._absolute if remember else self._not_kept),
                ended_at=None,
                method=method,
                second_factor=second_factor,
                proved_at=now,
                remember=remember,
                oidc_issuer=provider and provider.issuer,
                oidc_subject=provider and provider.subject,
                oidc_sid=provider and provider.sid,
            )
            session.add(row)
            session.execute(
                update(UserRow).where(UserRow.id == user_id).values(last_sign_in_at=now)
            )
            session.flush()
            found = self._live(session, _BY_ID, row.id)
            if found is None:
                raise SignInRefused
            details = {"method": method, "address": row.address}
            if second_factor is not None:
                details["secondFactor"] = second_factor
            note(
                self._audit,
                session,
                Event("session.started", user_id, user_id, row.id, details=details),
            )
        return NewSession(_to_session(found), ticket)

    def redeem(self, ticket: str) -> tuple[str, SignInSession]:
        """Trades a ticket, once, for a fresh handle. Raises `TicketRefused`."""
        handle, now = new_token(), self._clock()
        with self._database.write() as session:
            session_id = session.scalar(
                update(SessionRow)
                .where(
                    SessionRow.ticket_hash == token_hash(ticket),
                    SessionRow.ticket_expires_at > now,
                    SessionRow.ended_at.is_(None),
                )
                .values(ticket_hash=None, ticket_expires_at=None, handle_hash=token_hash(handle))
                .returning(SessionRow.id),
                execution_options={"synchronize_session": False},
            )
            found = session_id and self._live(session, _BY_ID, session_id)
            if not found:
                raise TicketRefused
            return handle, _to_session(found)

    def prove(self, session_id: str, *, second_factor: str | None = None) -> str:
        """Notes that the user has just proved who they are, with a second factor if one is named.

        The ticket that it returns is for a fresh handle, which takes the place of the old one: what
        somebody else may have seen before rights were raised opens nothing afterwards. Raises
        `Unauthenticated` if the session has ended.
        """
        now, ticket = self._clock(), new_token()
        values: dict[str, Any] = {
            "proved_at": now,
            "ticket_hash": token_hash(ticket),
            "ticket_expires_at": now + TICKET_LIFE,
        }
        if second_factor is not None:
            values["second_factor"] = second_factor
        with self._database.write() as session:
            changed: Any = session.execute(
                update(SessionRow)
                .where(SessionRow.id == session_id, SessionRow.ended_at.is_(None))
                .values(**values)
            )
            if not changed.rowcount:
                raise Unauthenticated
        return ticket

    def by_handle(self, handle: str) -> SignInSession | None:
        """The live session of a cookie value. Rights that were raised are not those of the handle
        of before, which is good for the rest until the browser has the fresh one.
        """
        found = self._find(_BY_HANDLE, token_hash(handle), seen=True) if handle else None
        return replace(found, proved_at=None) if found and found.renewing else found

    def by_id(self, session_id: str, *, seen: bool = True) -> SignInSession | None:
        """The session of this id, if it is live. `seen=False`: nobody did anything, just look."""
        return self._find(_BY_ID, session_id, seen=seen)

    def of_user(self, user_id: str) -> list[SignInSession]:
        """All live sessions of a user, the one seen last first."""
        with self._database.read() as session:
            rows = session.execute(_OF_USER, {"which": user_id, **self._times()}).all()
        return [_to_session(row) for row in rows]

    def end(self, session_id: str, *, by: str | None = None, reason: str = SIGNED_OUT) -> None:
        """Ends a session and every lease that rests on it. Ending it twice is no error.

        `by` is the id of whoever does it, where it is not the user; `reason` is for the log.
        """
        with self._database.write() as session:
            self.end_where(session, SessionRow.id == session_id, by=by, reason=reason)

    def end_others(
        self, user_id: str, keep: str, *, by: str | None = None, reason: str = ELSEWHERE
    ) -> int:
        """Ends all sessions of a user but one; says how many there were. Else as `end`."""
        with self._database.write() as session:
            return self.end_others_in(session, user_id, keep, by=by, reason=reason)

    def end_others_in(
        self,
        session: Session,
        user_id: str,
        keep: str,
        *,
        by: str | None = None,
        reason: str = ELSEWHERE,
    ) -> int:
        """The same in the caller's transaction."""
        which = SessionRow.user_id == user_id, SessionRow.id != keep
        return self.end_where(session, *which, by=by, reason=reason)

    def end_at_provider(
        self,
        session: Session,
        issuer: str,
        *,
        subject: str | None = None,
        sid: str | None = None,
        keep: str | None = None,
        reason: str,
    ) -> int:
        """Ends, in the caller's transaction, the sessions that an identity provider calls by this
        `subject`, this `sid` or both; how many. `keep` is the id of one that stays.
        """
        which = [SessionRow.oidc_issuer == issuer]
        if subject is None and sid is None:
            raise ValueError("whose sessions?")
        if subject is not None:
            which.append(SessionRow.oidc_subject == subject)
        if sid is not None:
            which.append(SessionRow.oidc_sid == sid)
        if keep is not None:
            which.append(SessionRow.id != keep)
        return self.end_where(session, *which, reason=reason)

    def issuer_of(self, session_id: str) -> str | None:
        """The provider at which this session began; None if it began here."""
        with self._database.read() as session:
            return session.scalar(select(SessionRow.oidc_issuer).where(SessionRow.id == session_id))

    def end_where(
        self,
        session: Session,
        *which: ColumnElement[bool],
        by: str | None = None,
        reason: str = ELSEWHERE,
    ) -> int:
        """Ends, in the caller's transaction, the live sessions that `which` finds; how many."""
        now = self._clock()
        ended = session.execute(
            update(SessionRow)
            .where(SessionRow.ended_at.is_(None), *which)
            .values(ended_at=now, ticket_hash=None)
            .returning(SessionRow.id, SessionRow.user_id, SessionRow.expires_at),
            execution_options={"synchronize_session": False},
        ).all()
        session.execute(
            update(LeaseRow)
            .where(
                LeaseRow.session_id.in_([row.id for row in ended]), LeaseRow.revoked_at.is_(None)
            )
            .values(revoked_at=now)
        )
        events = [
            Event(
                "session.ended",
                by or row.user_id,
                row.user_id,
                row.id,
                details={"reason": reason},
            )
            for row in ended
            if row.expires_at > now
        ]
        if events:
            note(self._audit, session, *events)
        return len(ended)

    def _times(self) -> dict[str, datetime]:
        now = self._clock()
        return {"now": now, "idle_since": now - self._idle}

    def _live(self, within: Session | Connection, query: Prepared, which: str) -> Any:
        """The row of a session that has not ended, or None."""
        return query.first(within, {"which": which, **self._times()})

    def _find(self, query: Prepared, which: str, *, seen: bool) -> SignInSession | None:
        with self._database.look() as connection:
            row = self._live(connection, query, which)
        if row is None:
            return None
        found = _to_session(row)
        now = self._clock()
        if seen and now - found.last_seen_at > SEEN_EVERY:
            with self._database.write() as session:
                session.execute(
                    update(SessionRow)
                    .where(SessionRow.id == found.id, SessionRow.ended_at.is_(None))
                    .values(last_seen_at=now)
                )
        return found


def _to_session(row: Sequence[Any]) -> SignInSession:
    *values, handle, ticket, appearance, policy = row
    renewing = handle is not None and ticket is not None
    session = SignInSession(*values, handle_hash=handle, renewing=renewing)
    if appearance is not None:
        session = replace(session, appearance=Appearance.read(appearance))
    weak = session.second_factor is None and session.method not in STRONG_METHODS
    if weak and requires_second_factor(policy, session.role):
        return replace(session, restricted=True)
    return session


# Plain tables, built once: every run of every page asks these.
_SESSION, _USER, _POLICY = table_of(SessionRow), table_of(UserRow), table_of(PolicyRow)
_PREFERENCE = table_of(PreferenceRow)
_LIVE: Select[Any] = (
    select(
        _SESSION.c.id,
        _SESSION.c.user_id,
        _USER.c.username,
        _USER.c.display_name,
        _USER.c.role,
        _SESSION.c.address,
        _SESSION.c.user_agent,
        _SESSION.c.created_at,
        _SESSION.c.last_seen_at,
        _SESSION.c.expires_at,
        _SESSION.c.method,
        _SESSION.c.second_factor,
        _SESSION.c.proved_at,
        _SESSION.c.remember,
        _SESSION.c.handle_hash,
        _SESSION.c.ticket_hash,
        select(_PREFERENCE.c.value)
        .where(_PREFERENCE.c.user_id == _SESSION.c.user_id, _PREFERENCE.c.name == APPEARANCE)
        .scalar_subquery()
        .label("appearance"),
        select(_POLICY.c.value)
        .where(_POLICY.c.name == SECOND_FACTOR)
        .scalar_subquery()
        .label("policy"),
    )
    .select_from(_SESSION)
    .join(_USER, _USER.c.id == _SESSION.c.user_id)
    .where(
        _SESSION.c.ended_at.is_(None),
        _SESSION.c.expires_at > bindparam("now"),
        _SESSION.c.last_seen_at > bindparam("idle_since"),
        _USER.c.disabled_at.is_(None),
        _USER.c.awaits_approval_since.is_(None),
    )
)
_BY_ID = Prepared(_LIVE.where(_SESSION.c.id == bindparam("which")))
_BY_HANDLE = Prepared(_LIVE.where(_SESSION.c.handle_hash == bindparam("which")))
_OF_USER = _LIVE.where(_SESSION.c.user_id == bindparam("which")).order_by(
    _SESSION.c.last_seen_at.desc()
)
