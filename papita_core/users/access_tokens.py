"""Personal access tokens: shown once, kept as a hash, limited by scopes and expiry."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from papita_core.actors import TOKEN_SCOPES, Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, new_id
from papita_core.errors import Conflict, InvalidInput, NotFound
from papita_core.grants.models import LeaseRow
from papita_core.users.models import AccessTokenRow, UserRow
from papita_core.users.service import normalise_username
from papita_core.users.tokens import new_token, token_hash

PREFIX = "papita_pat_"
USED_EVERY = timedelta(seconds=60)
MAX_TOKENS = 50


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as its user sees it afterwards. `last_used_at` is right to about a minute."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewAccessToken:
    info: AccessToken
    token: str = field(repr=False)


class AccessTokenService:
    def __init__(self, database: Database, audit: AuditLog, clock: Clock = utc_now) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def create(
        self,
        actor: Actor,
        *,
        name: str,
        scopes: tuple[str, ...],
        days: int | None = 90,
        username: str | None = None,
    ) -> NewAccessToken:
        """A token for the actor, or for `username` by whoever manages users.

        Raises `InvalidInput`, `NotFound`, `ReauthenticationRequired`, and `Conflict` where the user
        has `MAX_TOKENS` already.
        """
        actor.require("tokens:manage")
        actor.require_proof(self._clock())
        errors: dict[str, str] = {}
        if not 1 <= len(name.strip()) <= 200 or not name.isprintable():
            errors["name"] = "Give the token a name: one line of 1 to 200 characters."
        if not scopes or any(scope not in TOKEN_SCOPES for scope in scopes):
            errors["scopes"] = f"The scopes are {', '.join(TOKEN_SCOPES)}; choose at least one."
        if days is not None and not 1 <= days <= 3650:
            errors["expires"] = "A token lives 1 to 3650 days."
        if errors:
            raise InvalidInput(errors)
        token, now = new_token(PREFIX), self._clock()
        with self._database.write() as session:
            user_id = actor.user_id
            if username is not None:
                actor.require("users:manage")
                found = session.scalar(
                    select(UserRow.id).where(UserRow.username == normalise_username(username))
                )
                if found is None:
                    raise NotFound("There is no user of this name.")
                user_id = found
            self._check_room(session, user_id)
            row = AccessTokenRow(
                id=new_id(),
                user_id=user_id,
                name=name.strip(),
                token_hash=token_hash(token),
                scopes=" ".join(sorted(set(scopes))),
                created_at=now,
                expires_at=None if days is None else now + timedelta(days=days),
                last_used_at=None,
                revoked_at=None,
            )
            session.add(row)
            self._audit.append(
                session,
                Event(
                    "token.created",
                    actor.user_id,
                    user_id,
                    row.id,
                    details={"scopes": row.scopes},
                ),
            )
        return NewAccessToken(_to_token(row), token)

    def _check_room(self, session: Session, user_id: str) -> None:
        # The user's row is the queue: of two at once, the second one counts the first one's token.
        session.execute(select(UserRow.id).where(UserRow.id == user_id).with_for_update())
        live = session.scalar(
            select(func.count())
            .select_from(AccessTokenRow)
            .where(
                AccessTokenRow.user_id == user_id,
                AccessTokenRow.revoked_at.is_(None),
                or_(
                    AccessTokenRow.expires_at.is_(None),
                    AccessTokenRow.expires_at > self._clock(),
                ),
            )
        )
        if (live or 0) >= MAX_TOKENS:
            raise Conflict(
                f"There are {MAX_TOKENS} access tokens already. Revoke one that is not needed."
            )

    def list(self, actor: Actor, *, username: str | None = None) -> list[AccessToken]:
        """The live tokens of the actor, or of `username` for whoever manages users."""
        actor.require("tokens:manage")
        query = select(AccessTokenRow).where(AccessTokenRow.revoked_at.is_(None))
        if username is None:
            query = query.where(AccessTokenRow.user_id == actor.user_id)
        else:
            actor.require("users:manage")
            query = query.join(UserRow, UserRow.id == AccessTokenRow.user_id).where(
                UserRow.username == normalise_username(username)
            )
        with self._database.read() as session:
            rows = session.scalars(query.order_by(AccessTokenRow.created_at)).all()
        return [_to_token(row) for row in rows]

    def revoke(self, actor: Actor, token_id: str) -> None:
        """Revokes a token and every lease that rests on it. Raises `NotFound`."""
        actor.require("tokens:manage")
        now = self._clock()
        with self._database.write() as session:
            row = session.get(AccessTokenRow, token_id)
            mine = row is not None and row.user_id == actor.user_id
            if row is None or not (mine or actor.may("users:manage")):
                raise NotFound("There is no such token.")
            row.revoked_at = row.revoked_at or now
            session.execute(
                update(LeaseRow)
                .where(LeaseRow.access_token_id == token_id, LeaseRow.revoked_at.is_(None))
                .values(revoked_at=now)
            )
            self._audit.append(
                session, Event("token.revoked", actor.user_id, row.user_id, token_id)
            )

    def actor(self, token: str) -> Actor | None:
        """Whoever this token speaks for, if it is live and its user is."""
        now = self._clock()
        query = (
            select(AccessTokenRow, UserRow.username, UserRow.role)
            .join(UserRow, UserRow.id == AccessTokenRow.user_id)
            .where(
                AccessTokenRow.token_hash == token_hash(token),
                AccessTokenRow.revoked_at.is_(None),
                UserRow.disabled_at.is_(None),
            )
        )
        with self._database.read() as session:
            found = session.execute(query).one_or_none()
        if found is None:
            return None
        row, username, role = found
        if row.expires_at is not None and row.expires_at <= now:
            return None
        if row.last_used_at is None or now - row.last_used_at > USED_EVERY:
            with self._database.write() as session:
                session.execute(
                    update(AccessTokenRow)
                    .where(AccessTokenRow.id == row.id)
                    .values(last_used_at=now)
                )
        return Actor(
            row.user_id, username, role, token_id=row.id, scopes=frozenset(row.scopes.split())
        )


def _to_token(row: AccessTokenRow) -> AccessToken:
    return AccessToken(
        row.id,
        row.name,
        tuple(row.scopes.split()),
        row.created_at,
        row.expires_at,
        row.last_used_at,
    )
