"""Sign-in sessions that live on the server.

A sign-in makes a session and a ticket that serves once within a minute; the browser trades the
ticket for a random handle in a cookie. Only hashes of both are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, select, update
from sqlalchemy.orm import Session

from papita_core.clock import Clock, utc_now
from papita_core.db import Database, new_id, table_of
from papita_core.errors import TicketRefused
from papita_core.grants.models import LeaseRow
from papita_core.settings import Settings
from papita_core.users.models import SessionRow, UserRow
from papita_core.users.tokens import new_token, token_hash

TICKET_LIFE = timedelta(seconds=60)
SEEN_EVERY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class SignInSession:
    """A live session and the user it belongs to."""

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


@dataclass(frozen=True, slots=True)
class NewSession:
    session: SignInSession
    ticket: str = field(repr=False)


class SessionService:
    def __init__(self, database: Database, settings: Settings, clock: Clock = utc_now) -> None:
        self._database = database
        self._idle = timedelta(minutes=settings.session_idle_minutes)
        self._absolute = timedelta(days=settings.session_days)
        self._clock = clock

    def start(self, user_id: str, *, address: str = "", user_agent: str = "") -> NewSession:
        """A fresh session and the ticket for its cookie."""
        now, ticket = self._clock(), new_token()
        with self._database.write() as session:
            row = SessionRow(
                id=new_id(),
                user_id=user_id,
                handle_hash=None,
                ticket_hash=token_hash(ticket),
                ticket_expires_at=now + TICKET_LIFE,
                address=address[:64],
                user_agent=user_agent[:300],
                created_at=now,
                last_seen_at=now,
                expires_at=now + self._absolute,
                ended_at=None,
            )
            session.add(row)
            session.flush()
            found = session.execute(_BY_ID, {"which": row.id, **self._times()}).one()
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
            found = (
                session_id
                and session.execute(_BY_ID, {"which": session_id, **self._times()}).one_or_none()
            )
            if not found:
                raise TicketRefused
            return handle, _to_session(found)

    def by_handle(self, handle: str) -> SignInSession | None:
        """The live session of a cookie value."""
        return self._find(_BY_HANDLE, token_hash(handle), seen=True) if handle else None

    def by_id(self, session_id: str, *, seen: bool = True) -> SignInSession | None:
        """The session of this id, if it is live. `seen=False`: nobody did anything, just look."""
        return self._find(_BY_ID, session_id, seen=seen)

    def of_user(self, user_id: str) -> list[SignInSession]:
        """All live sessions of a user, the one seen last first."""
        with self._database.read() as session:
            rows = session.execute(_OF_USER, {"which": user_id, **self._times()}).all()
        return [_to_session(row) for row in rows]

    def end(self, session_id: str) -> None:
        """Ends a session and every lease that rests on it. Ending it twice is no error."""
        with self._database.write() as session:
            self._end(session, SessionRow.id == session_id)

    def end_others(self, user_id: str, keep: str) -> int:
        """Ends all sessions of a user but one; says how many there were."""
        with self._database.write() as session:
            return self._end(session, SessionRow.user_id == user_id, SessionRow.id != keep)

    def _end(self, session: Session, *which: ColumnElement[bool]) -> int:
        now = self._clock()
        ended = session.scalars(
            update(SessionRow)
            .where(SessionRow.ended_at.is_(None), *which)
            .values(ended_at=now, ticket_hash=None)
            .returning(SessionRow.id),
            execution_options={"synchronize_session": False},
        ).all()
        session.execute(
            update(LeaseRow)
            .where(LeaseRow.session_id.in_(ended), LeaseRow.revoked_at.is_(None))
            .values(revoked_at=now)
        )
        return len(ended)

    def _times(self) -> dict[str, datetime]:
        now = self._clock()
        return {"now": now, "idle_since": now - self._idle}

    def _find(self, query: Select[Any], which: str, *, seen: bool) -> SignInSession | None:
        with self._database.read() as session:
            row = session.execute(query, {"which": which, **self._times()}).one_or_none()
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
    return SignInSession(*row)


# Plain tables, built once: every run of every page asks these.
_SESSION, _USER = table_of(SessionRow), table_of(UserRow)
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
    )
    .select_from(_SESSION)
    .join(_USER, _USER.c.id == _SESSION.c.user_id)
    .where(
        _SESSION.c.ended_at.is_(None),
        _SESSION.c.expires_at > bindparam("now"),
        _SESSION.c.last_seen_at > bindparam("idle_since"),
        _USER.c.disabled_at.is_(None),
    )
)
_BY_ID = _LIVE.where(_SESSION.c.id == bindparam("which"))
_BY_HANDLE = _LIVE.where(_SESSION.c.handle_hash == bindparam("which"))
_OF_USER = _LIVE.where(_SESSION.c.user_id == bindparam("which")).order_by(
    _SESSION.c.last_seen_at.desc()
)
