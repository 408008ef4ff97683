"""User accounts: making, finding and changing them; deleting is in `account`.

Whoever changes somebody else's account manages users and has just proved who they are. There is
always an administrator who can come in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from papita_core.actors import ROLES, Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import AnyRow, Database, Prepared, new_id, table_of
from papita_core.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NotFound
from papita_core.grants.models import LeaseRow
from papita_core.users import directory
from papita_core.users.directory import Counts, ListedUser, UserFilter, UserPage
from papita_core.users.models import OneTimeLink, SessionRow, UserRow
from papita_core.users.passwords import hash_password, problem_with

USERNAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
NO_SUCH_USER = "There is no user of this name."
NOT_WAITING = "This user does not wait for approval any more. Load the list again."


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

    def anybody(self) -> bool:
        """Whether there is a user at all, however many there are."""
        with self._database.read() as session:
            return session.scalar(select(UserRow.id).limit(1)) is not None

    def by_id(self, user_id: str) -> User | None:
        with self._database.look() as connection:
            row = _BY_ID.first(connection, {"which": user_id})
        return None if row is None else to_user(row)

    def by_username(self, username: str) -> User | None:
        name = normalise_username(username)
        if not USERNAME.fullmatch(name):
            return None
        with self._database.look() as connection:
            row = _BY_NAME.first(connection, {"which": name})
        return None if row is None else to_user(row)

    # --- for administrators: finding ---

    def list(self, actor: Actor) -> list[User]:
        """Everybody by name. For few, or for the host: pages take `page`."""
        actor.require("users:manage")
        with self._database.read() as session:
            rows = session.scalars(select(UserRow).order_by(UserRow.username)).all()
            return [to_user(row) for row in rows]

    def page(
        self,
        actor: Actor,
        wanted: UserFilter = UserFilter(),  # noqa: B008 - a frozen value
        *,
        cursor: str | None = None,
        limit: int = 50,
    ) -> UserPage:
        """A page of the users that fit, by name. Raises `InvalidInput`."""
        actor.require("users:manage")
        statement = directory.page(wanted, cursor, limit)
        with self._database.read() as session:
            rows = session.execute(statement).all()
        items = [directory.listed(row) for row in rows[:limit]]
        return UserPage(items, items[-1].username if len(rows) > limit else None)

    def listed(self, actor: Actor, username: str) -> ListedUser:
        """One user, as in a page. Raises `NotFound`."""
        actor.require("users:manage")
        statement = directory.one(normalise_username(username))
        with self._database.read() as session:
            row = session.execute(statement).one_or_none()
        if row is None:
            raise NotFound(NO_SUCH_USER)
        return directory.listed(row)

    def matching(self, actor: Actor, wanted: UserFilter) -> int:
        """How many fit. Raises `InvalidInput`."""
        actor.require("users:manage")
        with self._database.read() as session:
            return session.scalar(directory.matching(wanted)) or 0

    def counts(self, actor: Actor) -> Counts:
        actor.require("users:manage")
        with self._database.read() as session:
            return Counts(*session.execute(directory.counting()).one())

    def names(self, actor: Actor, *, limit: int = 100) -> tuple[str, ...]:
        """The first names of those who may come in, to choose from; others are typed."""
        actor.require("users:manage")
        statement = (
            select(UserRow.username)
            .where(UserRow.disabled_at.is_(None))
            .order_by(UserRow.username)
            .limit(limit)
        )
        with self._database.read() as session:
            return tuple(session.scalars(statement))

    # --- for administrators: changing ---

    def create(self, actor: Actor, new: NewUser) -> User:
        """For the host alone: in the portal nobody knows anybody else's password, and an invitation
        does the same. Raises `InvalidInput` and `AlreadyExists`.
        """
        _require_operator(actor)
        encoded = checked_hash(new)
        with self._database.write() as session:
            return self.add(session, new, encoded, actor_id=actor.user_id)

    def add(
        self,
        session: Session,
        new: NewUser,
        encoded: str,
        *,
        actor_id: str,
        vouched: bool = True,
        waiting: bool = False,
    ) -> User:
        """Adds a checked user in the caller's transaction. `vouched`: the e-mail is known to be the
        user's. `waiting`: nothing lets them in until an administrator approves.
        """
        now = self._clock()
        row = UserRow(
            id=new_id(),
            username=normalise_username(new.username),
            display_name=new.display_name.strip() or new.username.strip(),
            email=(new.email or "").strip() or None,
            email_key=email_key(new.email),
            email_verified_at=now if vouched and email_key(new.email) else None,
            password_hash=encoded,
            role=new.role,
            disabled_at=now if waiting else None,
            awaits_approval_since=now if waiting else None,
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

    def set_role(self, actor: Actor, username: str, role: str) -> User:
        """In force at once, in open tabs and for access tokens, too. Of a guest it takes back what
        was lent; else it ends nothing. Raises `InvalidInput`, and `Conflict` for the last
        administrator.
        """
        if role not in ROLES:
            raise InvalidInput({"role": "The role is administrator, member or guest."})
        with self._changing(actor, username) as (session, row):
            before = row.role
            if role != before:
                if role != "administrator":
                    self.keep_an_administrator(session, row)
                row.role = role
                if role == "guest":  # whose own keys are lent no longer
                    self.take_back(session, row.id)
                self._record(session, actor, "user.role-changed", row, before=before, role=role)
            return to_user(row)

    def set_disabled(self, actor: Actor, username: str, disabled: bool) -> User:
        """Disabling ends sessions and leases in the same transaction. Enabling somebody who waits
        for approval is `approve`.
        """
        with self._changing(actor, username) as (session, row):
            if row.awaits_approval_since is not None and not disabled:
                return self._approve(session, actor, row)
            if disabled:
                self.keep_an_administrator(session, row)
                self.end_everything(session, row.id)
            row.disabled_at = self._clock() if disabled else None
            self._record(session, actor, "user.disabled" if disabled else "user.enabled", row)
            return to_user(row)

    def approve(self, actor: Actor, username: str) -> User:
        """Lets in somebody who has signed up. Raises `Conflict` if they do not wait."""
        with self._changing(actor, username) as (session, row):
            if row.awaits_approval_since is None:
                raise Conflict(NOT_WAITING)
            return self._approve(session, actor, row)

    def _approve(self, session: Session, actor: Actor, row: UserRow) -> User:
        row.awaits_approval_since = row.disabled_at = None
        self._record(session, actor, "user.approved", row)
        return to_user(row)

    def refuse(self, actor: Actor, username: str) -> None:
        """Takes away somebody who has signed up and waits. Raises `Conflict` if they do not."""
        with self._changing(actor, username) as (session, row):
            if row.awaits_approval_since is None:
                raise Conflict(NOT_WAITING)
            self._record(session, actor, "user.refused", row)
            session.delete(row)

    def dismiss_reset(self, actor: Actor, username: str) -> None:
        """Forgets that somebody has asked at the door for a new password of this user."""
        with self._changing(actor, username) as (session, row):
            row.reset_asked_at = None
            self._record(session, actor, "user.reset-dismissed", row)

    def end_sessions(self, actor: Actor, username: str) -> None:
        """Signs the user out everywhere and takes back what was lent."""
        with self._changing(actor, username) as (session, row):
            self.end_everything(session, row.id)
            self._record(session, actor, "user.signed-out", row)

    def keep_an_administrator(self, session: Session, row: UserRow) -> None:
        """Raises `Conflict` if nobody but this user administers. The caller's transaction has
        passed `one_at_a_time`, or two would each leave the other as the last one.
        """
        if row.role != "administrator" or row.disabled_at is not None:
            return
        other = session.scalar(
            select(UserRow.id)
            .where(
                UserRow.role == "administrator",
                UserRow.disabled_at.is_(None),
                UserRow.id != row.id,
            )
            .limit(1)
        )
        if other is None:
            raise Conflict("This is the last administrator. Make another one first.")

    def reset_password(self, actor: Actor, username: str, password: str) -> None:
        """Sets a password and ends every session of the user. For the host alone: in the portal
        administrators make links (`LinkService`). Raises `InvalidInput`.
        """
        _require_operator(actor)
        problem = problem_with(password, username=normalise_username(username))
        if problem:
            raise InvalidInput({"password": problem})
        encoded = hash_password(password)
        with self._changing(actor, username) as (session, row):
            self.put_password(session, row, encoded, actor_id=actor.user_id)

    def put_password(self, session: Session, row: UserRow, encoded: str, *, actor_id: str) -> None:
        """Sets a checked password in the caller's transaction; ends all sessions and leases."""
        row.password_hash = encoded
        row.reset_asked_at = None
        self.end_everything(session, row.id)
        session.flush()
        self._audit.append(session, Event("user.password-reset", actor_id, row.id, row.id))

    def end_everything(self, session: Session, user_id: str) -> None:
        """Ends the user's sign-in sessions and leases, and takes back links for a new password, in
        the caller's transaction.
        """
        now = self._clock()
        session.execute(
            update(OneTimeLink)
            .where(
                OneTimeLink.user_id == user_id,
                OneTimeLink.used_at.is_(None),
                OneTimeLink.revoked_at.is_(None),
            )
            .values(revoked_at=now)
        )
        session.execute(
            update(SessionRow)
            .where(SessionRow.user_id == user_id, SessionRow.ended_at.is_(None))
            .values(ended_at=now, ticket_hash=None)
        )
        self.take_back(session, user_id)

    def take_back(self, session: Session, user_id: str) -> None:
        """Ends what was lent to this user's projects, in the caller's transaction."""
        session.execute(
            update(LeaseRow)
            .where(LeaseRow.user_id == user_id, LeaseRow.revoked_at.is_(None))
            .values(revoked_at=self._clock())
        )

    @contextmanager
    def _changing(self, actor: Actor, username: str) -> Iterator[tuple[Session, UserRow]]:
        """One change of a user by somebody who manages users and has just proved who they are."""
        actor.require("users:manage")
        actor.require_proof(self._clock())
        with self._database.write() as session:
            self._database.one_at_a_time(session)
            yield session, self._named(session, username)

    def _record(
        self, session: Session, actor: Actor, action: str, row: UserRow, **details: str
    ) -> None:
        session.flush()
        event = Event(action, actor.user_id, row.id, row.id, details=details)
        self._audit.append(session, event)

    def _named(self, session: Session, username: str) -> UserRow:
        row = session.scalar(
            select(UserRow).where(UserRow.username == normalise_username(username))
        )
        if row is None:
            raise NotFound(NO_SUCH_USER)
        return row


def _require_operator(actor: Actor) -> None:
    if actor.role != "operator":
        raise Forbidden(
            "Passwords of others are set on the host alone. Make a link in their place."
        )


def normalise_username(username: str) -> str:
    return unicodedata.normalize("NFKC", username).strip().casefold()


def email_key(email: str | None) -> str | None:
    """An e-mail as it is compared; None where there is none."""
    return unicodedata.normalize("NFKC", email or "").strip().casefold() or None


def checked_hash(new: NewUser) -> str:
    """Checks all fields at once and hashes the password. Raises `InvalidInput`."""
    check(new)
    return hash_password(new.password)


def check(new: NewUser) -> None:
    """Checks all fields at once. Raises `InvalidInput`."""
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
    problem = problem_with(new.password, username=username, words=(new.display_name, email))
    if problem:
        errors["password"] = problem
    if errors:
        raise InvalidInput(errors)


# Every run of every page comes by here.
_USER = table_of(UserRow)
_SHOWN = select(*_USER.c["id", "username", "display_name", "email", "role", "disabled_at"])
_BY_ID = Prepared(_SHOWN.where(_USER.c.id == bindparam("which")))
_BY_NAME = Prepared(_SHOWN.where(_USER.c.username == bindparam("which")))


def to_user(row: UserRow | AnyRow) -> User:
    """The account of a row, which has at least these columns."""
    return User(
        row.id, row.username, row.display_name, row.email, row.role, row.disabled_at is not None
    )
