"""User accounts: making, finding, disabling and renaming them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from papita_core.actors import ROLES, Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, new_id
from papita_core.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from papita_core.grants.models import LeaseRow
from papita_core.users.models import SessionRow, UserRow
from papita_core.users.passwords import hash_password, problem_with

USERNAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True, slots=True)
class User:
    id: str
    username: str
    display_name: str
    email: str | None
    role: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class NewUser:
    username: str
    password: str
    display_name: str = ""
    email: str | None = None
    role: str = "member"

    def __repr__(self) -> str:
        return f"NewUser({self.username!r}, role={self.role!r})"


class UserService:
    def __init__(self, database: Database, audit: AuditLog, clock: Clock = utc_now) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def count(self) -> int:
        with self._database.read() as session:
            return session.scalar(select(func.count()).select_from(UserRow)) or 0

    def by_id(self, user_id: str) -> User | None:
        with self._database.read() as session:
            row = session.get(UserRow, user_id)
            return None if row is None else to_user(row)

    def by_username(self, username: str) -> User | None:
        name = normalise_username(username)
        if not USERNAME.fullmatch(name):
            return None
        with self._database.read() as session:
            row = session.scalar(select(UserRow).where(UserRow.username == name))
            return None if row is None else to_user(row)

    def list(self, actor: Actor) -> list[User]:
        actor.require("users:manage")
        with self._database.read() as session:
            rows = session.scalars(select(UserRow).order_by(UserRow.username)).all()
            return [to_user(row) for row in rows]

    def create(self, actor: Actor, new: NewUser) -> User:
        """Raises `InvalidInput` and `AlreadyExists`."""
        actor.require("users:manage")
        encoded = checked_hash(new)
        with self._database.write() as session:
            return self.add(session, new, encoded, actor_id=actor.user_id)

    def add(self, session: Session, new: NewUser, encoded: str, *, actor_id: str) -> User:
        """Adds a checked user in the caller's transaction."""
        now = self._clock()
        row = UserRow(
            id=new_id(),
            username=normalise_username(new.username),
            display_name=new.display_name.strip() or new.username.strip(),
            email=(new.email or "").strip() or None,
            email_key=email_key(new.email),
            email_verified_at=now if email_key(new.email) else None,
            password_hash=encoded,
            role=new.role,
            disabled_at=None,
            awaits_approval_since=None,
            reset_asked_at=None,
            last_sign_in_at=None,
            created_at=now,
        )
        try:
            with session.begin_nested():
                session.add(row)
                session.flush()
        except IntegrityError:
            raise AlreadyExists(
                "There is a user of this name or e-mail already. Take another one."
            ) from None
        self._audit.append(
            session,
            Event("user.created", actor_id, row.id, row.id, details={"role": row.role}),
        )
        return to_user(row)

    def set_disabled(self, actor: Actor, username: str, disabled: bool) -> User:
        """Disabling ends sessions and leases in the same transaction."""
        actor.require("users:manage")
        now = self._clock()
        with self._database.write() as session:
            self._database.one_at_a_time(session)  # or two would each leave the other as the last
            row = self._named(session, username)
            if disabled and row.role == "administrator":
                others = session.scalar(
                    select(func.count())
                    .select_from(UserRow)
                    .where(
                        UserRow.role == "administrator",
                        UserRow.disabled_at.is_(None),
                        UserRow.id != row.id,
                    )
                )
                if not others:
                    raise Conflict("This is the last administrator. Make another one first.")
            row.disabled_at = now if disabled else None
            if disabled:
                self.end_everything(session, row.id)
            action = "user.disabled" if disabled else "user.enabled"
            self._audit.append(session, Event(action, actor.user_id, row.id, row.id))
            return to_user(row)

    def reset_password(self, actor: Actor, username: str, password: str) -> None:
        """Sets a password and ends every session of the user. Raises `InvalidInput`."""
        actor.require("users:manage")
        problem = problem_with(password, username=normalise_username(username))
        if problem:
            raise InvalidInput({"password": problem})
        encoded = hash_password(password)
        with self._database.write() as session:
            row = self._named(session, username)
            row.password_hash = encoded
            self.end_everything(session, row.id)
            self._audit.append(session, Event("user.password-reset", actor.user_id, row.id, row.id))

    def end_everything(self, session: Session, user_id: str) -> None:
        """Ends the user's sign-in sessions and leases, in the caller's transaction."""
        now = self._clock()
        session.execute(
            update(SessionRow)
            .where(SessionRow.user_id == user_id, SessionRow.ended_at.is_(None))
            .values(ended_at=now)
        )
        session.execute(
            update(LeaseRow)
            .where(LeaseRow.user_id == user_id, LeaseRow.revoked_at.is_(None))
            .values(revoked_at=now)
        )

    def _named(self, session: Session, username: str) -> UserRow:
        row = session.scalar(
            select(UserRow).where(UserRow.username == normalise_username(username))
        )
        if row is None:
            raise NotFound("There is no user of this name.")
        return row


def normalise_username(username: str) -> str:
    return unicodedata.normalize("NFKC", username).strip().casefold()


def email_key(email: str | None) -> str | None:
    """An e-mail as it is compared; None where there is none."""
    return unicodedata.normalize("NFKC", email or "").strip().casefold() or None


def checked_hash(new: NewUser) -> str:
    """Checks all fields at once and hashes the password. Raises `InvalidInput`."""
    errors: dict[str, str] = {}
    username = normalise_username(new.username)
    if not USERNAME.fullmatch(username):
        errors["username"] = (
            "The user name takes 1 to 64 letters a to z, digits, dots, dashes and underscores,"
            " with a letter or digit at both ends."
        )
    if len(new.display_name) > 200 or not new.display_name.isprintable():
        errors["displayName"] = "The name is one line of at most 200 characters."
    email = (new.email or "").strip()
    if email and not (len(email) <= 320 and email.isprintable() and EMAIL.fullmatch(email)):
        errors["email"] = "This is not an e-mail address."
    if new.role not in ROLES:
        errors["role"] = "The role is administrator, member or guest."
    problem = problem_with(new.password, username=username)
    if problem:
        errors["password"] = problem
    if errors:
        raise InvalidInput(errors)
    return hash_password(new.password)


def to_user(row: UserRow) -> User:
    return User(
        row.id, row.username, row.display_name, row.email, row.role, row.disabled_at is not None
    )
