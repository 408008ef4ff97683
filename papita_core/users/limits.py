"""How often something may be tried, counted in the database for all portals together.

    TRIES = Limit("second-step.account", 5, timedelta(minutes=5))

    tries = (Try(TRIES, user_id, user_id=user_id, address=address),)
    limits.hit(*tries)        # counts first: raises TooManyAttempts, which says when to try again
    ...                       # look whether the code is right
    limits.forgive(*tries)    # it was: then the try does not count

A window begins with its first try and ends by itself; tries that are refused do not make it longer.
Whoever counts before looking cannot be outrun: of many tries at the same moment, as many are let
through as the limit allows, whatever the number of portals.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, table_of
from papita_core.errors import InvalidInput, TooManyAttempts
from papita_core.users.events import note
from papita_core.users.models import AttemptCounter, UserRow
from papita_core.users.tokens import token_hash

MAX_LISTED = 500


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` tries within `window`. `kind` names the counter: `<what>.<of whom>`."""

    kind: str
    most: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Try:
    """One try under one limit. `key` is what is counted; only its hash is kept.

    `user_id` and `address` are for administrators to see; `user_id` only of users that are there.
    """

    limit: Limit
    key: str
    user_id: str | None = None
    address: str = ""

    @property
    def _key_hash(self) -> str:
        return token_hash(self.key)


@dataclass(frozen=True, slots=True)
class Lockout:
    """Tries of one `kind` are refused until `until`. `key` is what `clear` takes; `tries` are those
    in this window, refused ones among them.
    """

    kind: str
    key: str
    user_id: str | None
    username: str | None
    address: str
    tries: int
    since: datetime
    until: datetime


class LimitService:
    def __init__(self, database: Database, audit: AuditLog, clock: Clock = utc_now) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        insert = sqlite.insert if database.is_sqlite else postgresql.insert
        statement = insert(_COUNTER)
        over = _COUNTER.c.expires_at <= statement.excluded.window_start
        new = statement.excluded
        # One statement, so that no two tries count the same number.
        self._count = statement.on_conflict_do_update(
            index_elements=[_COUNTER.c.kind, _COUNTER.c.key_hash],
            set_={
                "count": case((over, 1), else_=_COUNTER.c.count + 1),
                "window_start": case((over, new.window_start), else_=_COUNTER.c.window_start),
                "expires_at": case((over, new.expires_at), else_=_COUNTER.c.expires_at),
                "most": new.most,
                "user_id": new.user_id,
                "address": new.address,
            },
        ).returning(_COUNTER.c.count, _COUNTER.c.expires_at)

    def hit(self, *tries: Try) -> None:
        """Counts each try, in this order, up to the first that is one too many: name the narrowest
        first, so that what is refused there does not use up what all share. Raises
        `TooManyAttempts`. The first refusal of a window is in the audit log.
        """
        with self._database.write() as session:
            refusal = self._hit(session, tries)
        if refusal is not None:
            raise refusal

    def _hit(self, session: Session, tries: tuple[Try, ...]) -> TooManyAttempts | None:
        now = self._clock()
        for each in tries:
            count, until = session.execute(
                self._count,
                {
                    "kind": each.limit.kind,
                    "key_hash": each._key_hash,
                    "window_start": now,
                    "count": 1,
                    "most": each.limit.most,
                    "user_id": each.user_id,
                    "address": each.address[:64],
                    "expires_at": now + each.limit.window,
                },
            ).one()
            if count <= each.limit.most:
                continue
            if count == each.limit.most + 1:
                details = {"kind": each.limit.kind, "address": each.address[:64]}
                note(
                    self._audit,
                    session,
                    Event("limit.reached", owner_id=each.user_id, details=details),
                )
            return TooManyAttempts(_seconds(until - now))
        return None

    def check(self, *tries: Try) -> None:
        """Raises `TooManyAttempts` where one more try would be refused; counts nothing."""
        now = self._clock()
        with self._database.read() as session:
            for each in tries:
                row = session.get(AttemptCounter, (each.limit.kind, each._key_hash))
                if row is not None and row.expires_at > now and row.count >= each.limit.most:
                    raise TooManyAttempts(_seconds(row.expires_at - now))

    def forgive(self, *tries: Try) -> None:
        """Takes back what `hit` has counted: the try was a good one."""
        now = self._clock()
        with self._database.write() as session:
            for each in tries:
                session.execute(
                    update(_COUNTER)
                    .where(
                        _COUNTER.c.kind == each.limit.kind,
                        _COUNTER.c.key_hash == each._key_hash,
                        _COUNTER.c.expires_at > now,
                        _COUNTER.c.count > 0,
                    )
                    .values(count=_COUNTER.c.count - 1)
                )

    # --- for administrators ---

    def locked(self, actor: Actor) -> list[Lockout]:
        """What is refused at this moment, the latest first. Raises `Forbidden`."""
        actor.require("users:manage")
        query = (
            select(AttemptCounter, UserRow.username)
            .outerjoin(UserRow, UserRow.id == AttemptCounter.user_id)
            .where(
                AttemptCounter.expires_at > self._clock(),
                AttemptCounter.count >= AttemptCounter.most,
            )
            .order_by(AttemptCounter.window_start.desc(), AttemptCounter.key_hash)
            .limit(MAX_LISTED)
        )
        with self._database.read() as session:
            rows = session.execute(query).all()
        return [
            Lockout(
                row.kind,
                row.key_hash,
                row.user_id,
                username,
                row.address,
                row.count,
                row.window_start,
                row.expires_at,
            )
            for row, username in rows
        ]

    def clear(
        self,
        actor: Actor,
        *,
        key: str | None = None,
        user_id: str | None = None,
        address: str | None = None,
    ) -> int:
        """Forgets what was counted of a user, of an address or under a lock-out's key; where more
        than one is named, what fits them all. Says how many counters that were. Raises `Forbidden`,
        and `InvalidInput` where none is named.
        """
        actor.require("users:manage")
        named = {"key_hash": key, "user_id": user_id, "address": address}
        which = [_COUNTER.c[name] == value for name, value in named.items() if value is not None]
        if not which:
            raise InvalidInput({"user": "Name a user, an address or a lock-out."})
        with self._database.write() as session:
            result: Any = session.execute(delete(_COUNTER).where(*which))
            count: int = result.rowcount
            if count:
                details = {} if address is None else {"address": address[:64]}
                note(
                    self._audit,
                    session,
                    Event("limit.cleared", actor.user_id, user_id, details=details),
                )
        return count


def network_of(address: str) -> str:
    """What an address counts as: itself, or with IPv6 the /64 network, all of which one household
    has. Text that is no address counts as it is.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def _seconds(left: timedelta) -> int:
    return int(left.total_seconds()) + 1


_COUNTER = table_of(AttemptCounter)
