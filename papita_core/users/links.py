"""Links that serve once: invitations, and links with which users set a new password themselves.

Only the hash of a link's token is kept, so that a link is shown once, to whoever makes it. A link
ends when it is used, taken back or too old, and with the rights of the administrator who made it.
Of two who use one at the same moment one wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from papita_core.actors import ROLES, Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, new_id
from papita_core.errors import Conflict, InvalidInput, LinkRefused, NotFound
from papita_core.settings import Settings
from papita_core.users.models import OneTimeLink, UserRow
from papita_core.users.passwords import hash_password, problem_with
from papita_core.users.service import (
    EMAIL,
    NO_SUCH_USER,
    NewUser,
    User,
    UserService,
    checked_hash,
    email_key,
    normalise_username,
    to_user,
)
from papita_core.users.tokens import new_token, token_hash

INVITATION, RESET = "invitation", "password-reset"
PARAMETERS = {INVITATION: "invite", RESET: "reset"}
SHORTEST, LONGEST, USUAL = timedelta(hours=1), timedelta(days=30), timedelta(days=7)
RESET_LIFE = timedelta(hours=24)
MAX_LISTED = 200
LONGEST_NOTE = 200


@dataclass(frozen=True, slots=True)
class Invitation:
    """Whoever uses it gets an account of this role. `created_by` is the name of who made it."""

    id: str
    role: str
    email: str | None
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PasswordReset:
    """Whoever uses it sets the password of this user."""

    username: str
    display_name: str
    email: str | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link that was just made. `url` is shown once and kept nowhere."""

    expires_at: datetime
    url: str = field(repr=False)

    @property
    def token(self) -> str:
        return self.url.rpartition("=")[2]


class LinkService:
    def __init__(
        self,
        database: Database,
        users: UserService,
        audit: AuditLog,
        settings: Settings,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._users = users
        self._audit = audit
        self._origin = settings.origin
        self._clock = clock

    # --- for administrators ---

    def invite(
        self,
        actor: Actor,
        *,
        role: str = "member",
        email: str = "",
        note: str = "",
        lasts: timedelta = USUAL,
    ) -> NewLink:
        """An invitation. `note` is for administrators to read. Raises `InvalidInput`."""
        now = self._allow(actor)
        errors = {}
        email = email.strip()
        if role not in ROLES:
            errors["role"] = "The role is administrator, member or guest."
        if email and not (len(email) <= 320 and email.isprintable() and EMAIL.fullmatch(email)):
            errors["email"] = "This is not an e-mail address."
        if len(note) > LONGEST_NOTE or not note.isprintable():
            errors["note"] = f"The note is one line of at most {LONGEST_NOTE} characters."
        if not SHORTEST <= lasts <= LONGEST:
            errors["expires"] = "An invitation lasts 1 hour to 30 days."
        if errors:
            raise InvalidInput(errors)
        row, url = self._new(actor, INVITATION, now + lasts)
        row.role, row.email, row.note = role, email or None, note.strip()
        with self._database.write() as session:
            session.add(row)
            session.flush()
            details = {"role": role}
            event = Event("invitation.created", actor.user_id, None, row.id, details=details)
            self._audit.append(session, event)
        return NewLink(row.expires_at, url)

    def invitations(self, actor: Actor) -> list[Invitation]:
        """Those that can still be used, the newest first."""
        actor.require("users:manage")
        maker = aliased(UserRow)
        query = (
            select(OneTimeLink, maker.username)
            .outerjoin(maker, maker.id == OneTimeLink.created_by)
            .where(OneTimeLink.kind == INVITATION, *self._serves())
            .order_by(OneTimeLink.created_at.desc(), OneTimeLink.id)
            .limit(MAX_LISTED)
        )
        with self._database.read() as session:
            rows = session.execute(query).all()
        return [_to_invitation(row, name) for row, name in rows]

    def revoke(self, actor: Actor, invitation_id: str) -> None:
        """Takes an invitation back. Raises `NotFound` where there is none that can be used."""
        now = self._allow(actor)
        with self._database.write() as session:
            changed: Any = session.execute(
                update(OneTimeLink)
                .where(
                    OneTimeLink.id == invitation_id,
                    OneTimeLink.kind == INVITATION,
                    *_unused(),
                )
                .values(revoked_at=now)
            )
            if not changed.rowcount:
                raise NotFound("There is no such invitation any more. Load the list again.")
            self._audit.append(
                session, Event("invitation.revoked", actor.user_id, None, invitation_id)
            )

    def reset_link(self, actor: Actor, username: str) -> NewLink:
        """A link with which this user sets a new password; it takes the place of earlier ones.

        It does not stand for a second factor. Raises `NotFound`, and `Conflict` for a user who may
        not come in.
        """
        now = self._allow(actor)
        row, url = self._new(actor, RESET, now + RESET_LIFE)
        with self._database.write() as session:
            name = normalise_username(username).replace("\0", "\ufffd")
            user = session.scalar(select(UserRow).where(UserRow.username == name).with_for_update())
            if user is None:
                raise NotFound(NO_SUCH_USER)
            if user.disabled_at is not None:
                raise Conflict("This user may not come in. Enable or approve the user first.")
            session.execute(
                update(OneTimeLink)
                .where(OneTimeLink.user_id == user.id, OneTimeLink.kind == RESET, *_unused())
                .values(revoked_at=now)
            )
            row.user_id = user.id
            user.reset_asked_at = None
            session.add(row)
            session.flush()
            self._audit.append(
                session, Event("user.reset-link-made", actor.user_id, user.id, row.id)
            )
        return NewLink(row.expires_at, url)

    # --- for whoever has a link ---

    def invitation(self, token: str) -> Invitation:
        """What an invitation gives. Raises `LinkRefused`."""
        with self._database.read() as session:
            row = session.scalar(
                select(OneTimeLink).where(*_named(INVITATION, token), *self._serves())
            )
            if row is None:
                raise self._refusal(session, INVITATION, token)
            return _to_invitation(row, None)

    def accept(
        self, token: str, *, username: str, password: str, display_name: str = "", email: str = ""
    ) -> User:
        """Makes the account. Raises `LinkRefused`, `InvalidInput` and `AlreadyExists`; the link
        serves again after the last two.
        """
        invitation = self.invitation(token)
        new = NewUser(username, password, display_name, email, invitation.role)
        encoded = checked_hash(new)
        with self._database.write() as session:
            self._use(session, INVITATION, token)
            # Whoever invites knows whose e-mail it is; what is typed here anybody may have typed.
            vouched = invitation.email is not None and email_key(email) == email_key(
                invitation.email
            )
            user = self._users.add(session, new, encoded, actor_id="invitation", vouched=vouched)
            details = {"role": invitation.role}
            self._audit.append(
                session,
                Event("invitation.used", user.id, user.id, invitation.id, details=details),
            )
            return user

    def password_reset(self, token: str) -> PasswordReset:
        """Whose password a link sets. Raises `LinkRefused`."""
        with self._database.read() as session:
            found = session.execute(
                select(UserRow, OneTimeLink.expires_at)
                .join(OneTimeLink, OneTimeLink.user_id == UserRow.id)
                .where(*_named(RESET, token), *self._serves(), UserRow.disabled_at.is_(None))
            ).one_or_none()
            if found is None:
                raise self._refusal(session, RESET, token)
            user, expires_at = found
            return PasswordReset(user.username, user.display_name, user.email, expires_at)

    def set_password(self, token: str, password: str) -> User:
        """Sets the password and ends all sessions and leases of the user, who then signs in as
        always. Raises `LinkRefused` and `InvalidInput`; the link serves again after the latter.
        """
        reset = self.password_reset(token)
        words = (reset.display_name, reset.email or "")
        problem = problem_with(password, username=reset.username, words=words)
        if problem:
            raise InvalidInput({"password": problem})
        encoded = hash_password(password)
        with self._database.write() as session:
            user_id = self._use(session, RESET, token)
            user = session.get(UserRow, user_id)
            if user is None or user.disabled_at is not None:
                raise LinkRefused("disabled")
            self._users.put_password(session, user, encoded, actor_id=user.id)
            return to_user(user)

    # --- both ---

    def _allow(self, actor: Actor) -> datetime:
        now = self._clock()
        actor.require("users:manage")
        actor.require_proof(now)
        return now

    def _new(self, actor: Actor, kind: str, expires_at: datetime) -> tuple[OneTimeLink, str]:
        token = new_token()
        row = OneTimeLink(
            id=new_id(),
            kind=kind,
            token_hash=token_hash(token),
            note="",
            created_by=actor.user_id,
            created_at=self._clock(),
            expires_at=expires_at,
        )
        return row, f"{self._origin}/?{PARAMETERS[kind]}={token}"

    def _serves(self) -> tuple[ColumnElement[bool], ...]:
        maker = aliased(UserRow)
        still_may = exists().where(
            maker.id == OneTimeLink.created_by,
            maker.role == "administrator",
            maker.disabled_at.is_(None),
        )
        return (
            *_unused(),
            OneTimeLink.expires_at > self._clock(),
            or_(OneTimeLink.created_by == Actor.operator().user_id, still_may),
        )

    def _use(self, session: Session, kind: str, token: str) -> str | None:
        """Uses the link up; the id of its user, if it has one. Raises `LinkRefused`."""
        used = session.execute(
            update(OneTimeLink)
            .where(*_named(kind, token), *self._serves())
            .values(used_at=self._clock())
            .returning(OneTimeLink.user_id),
            execution_options={"synchronize_session": False},
        ).one_or_none()
        if used is None:
            raise self._refusal(session, kind, token)
        user_id: str | None = used[0]
        return user_id

    def _refusal(self, session: Session, kind: str, token: str) -> LinkRefused:
        row = session.scalar(select(OneTimeLink).where(*_named(kind, token)))
        if row is None:
            return LinkRefused()
        if row.used_at is not None:
            return LinkRefused("used")
        if row.revoked_at is not None:
            return LinkRefused("revoked")
        if row.expires_at <= self._clock():
            return LinkRefused("expired")
        user = row.user_id and session.get(UserRow, row.user_id)
        if user and user.disabled_at is not None:
            return LinkRefused("disabled")
        return LinkRefused("revoked")  # with the rights of whoever made it


def _named(kind: str, token: str) -> tuple[ColumnElement[bool], ...]:
    return (OneTimeLink.kind == kind, OneTimeLink.token_hash == token_hash(token))


def _unused() -> tuple[ColumnElement[bool], ...]:
    return (OneTimeLink.used_at.is_(None), OneTimeLink.revoked_at.is_(None))


def _to_invitation(row: OneTimeLink, made_by: str | None) -> Invitation:
    return Invitation(
        row.id,
        row.role or "member",
        row.email,
        row.note,
        made_by or row.created_by,
        row.created_at,
        row.expires_at,
    )
