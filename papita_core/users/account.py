"""A user's own account: what it says, its password, what happened to it, and its end.

What somebody at an open tab must not be able to do asks for a fresh proof. Deletion is the same for
the user and for whoever manages users: all rows go, keys with them, and projects are told to delete
what they have. The audit log keeps ids alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter, AuditLog, AuditPage, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    Unauthenticated,
)
from papita_core.grants.user_tokens import LIFE
from papita_core.projects.catalogue import PROJECTS
from papita_core.users.limits import Limit, LimitService, Try
from papita_core.users.models import Erasure, OneTimeLink, SessionRow, UserRow
from papita_core.users.passwords import hash_password, problem_with
from papita_core.users.service import EMAIL, email_key, normalise_username
from papita_core.users.sessions import ELSEWHERE, SessionService

# Nobody finds out many e-mails of others.
TAKEN_EMAILS = Limit("account-email.account", 5, timedelta(hours=1))
# What is no event of the account: every answer borrows a key.
NOT_OF_ACCOUNTS = (
    "credential.read",
    "lease.issued",
    "credential.tested",
    "credential.unreadable",
)
# A project must not be told that all is done while a user token may still bring something new.
FINAL_AFTER = LIFE + timedelta(minutes=1)
EMAIL_CHANGED = "account.email-changed"
EMAIL_TAKEN = "This e-mail cannot be used. Take another one, or ask an administrator."
LAST_ADMINISTRATOR = "This is the last administrator. Make another one first."


@dataclass(frozen=True, slots=True)
class Account:
    """`email_verified`: an administrator or an identity provider vouched for it."""

    id: str
    username: str
    display_name: str
    email: str | None
    email_verified: bool
    role: str
    has_password: bool
    created_at: datetime
    last_sign_in_at: datetime | None


@dataclass(frozen=True, slots=True)
class DueErasure:
    """A deleted user whose data a project still has. `final`: no user token is left that could
    bring something new, so that the project may say that it is done.
    """

    user_id: str
    username: str
    asked_at: datetime
    final: bool


class AccountService:
    def __init__(
        self,
        database: Database,
        sessions: SessionService,
        limits: LimitService,
        audit: AuditLog,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._limits = limits
        self._audit = audit
        self._clock = clock

    # --- one's own ---

    def get(self, actor: Actor) -> Account:
        """The actor's own. Raises `Unauthenticated` where it is gone."""
        actor.require("profile")
        with self._database.read() as session:
            row = self._own(session, actor)
        return Account(
            row.id,
            row.username,
            row.display_name,
            row.email,
            row.email_verified_at is not None,
            row.role,
            bool(row.password_hash),
            row.created_at,
            row.last_sign_in_at,
        )

    def rename(self, actor: Actor, display_name: str) -> None:
        """What others see as the name. Raises `InvalidInput`."""
        actor.require("profile")
        name = " ".join(display_name.split())
        if not 1 <= len(name) <= 200 or not name.isprintable():
            raise InvalidInput({"displayName": "The name is one line of 1 to 200 characters."})
        with self._database.write() as session:
            row = self._own(session, actor)
            if row.display_name == name:
                return
            row.display_name = name
            self._note(session, "account.renamed", actor)

    def change_email(self, actor: Actor, email: str) -> None:
        """The e-mail that also signs in; an empty one takes it away. Nobody has vouched for it.

        One that another account has is refused, in words that name nobody, and after `TAKEN_EMAILS`
        every further one. Raises `InvalidInput`, `TooManyAttempts`, `ReauthenticationRequired`.
        """
        actor.require("profile")
        now = self._clock()
        actor.require_proof(now)
        email = email.strip()
        if email and not (len(email) <= 320 and email.isprintable() and EMAIL.fullmatch(email)):
            raise InvalidInput({"email": "This is not an e-mail address."})
        attempt = Try(TAKEN_EMAILS, actor.user_id, user_id=actor.user_id)
        self._limits.hit(attempt)
        with self._database.write() as session:
            row = self._own(session, actor)
            changed, taken = (row.email or "") != email, False
            if changed:
                taken = not self._set_email(session, row, email)
                self._note(session, EMAIL_CHANGED, actor, "taken" if taken else "ok")
        if taken:
            raise InvalidInput({"email": EMAIL_TAKEN})
        self._limits.forgive(attempt)

    def change_password(self, actor: Actor, password: str) -> None:
        """Sets it, also where there was none. All other sessions end, with what was borrowed on
        them; this one's cookie opens nothing any more, so that a fresh handle has to follow
        (`SessionService.prove`); links for a new password are taken back.

        Raises `InvalidInput` and `ReauthenticationRequired`.
        """
        actor.require("profile")
        now = self._clock()
        actor.require_proof(now)
        with self._database.read() as session:
            row = self._own(session, actor)
        words = (row.display_name, row.email or "")
        problem = problem_with(password, username=row.username, words=words)
        if problem:
            raise InvalidInput({"password": problem})
        encoded = hash_password(password)
        with self._database.write() as session:
            row = self._own(session, actor)
            row.password_hash = encoded
            row.reset_asked_at = None
            keep = actor.session_id or ""
            self._sessions.end_others_in(session, row.id, keep)
            session.execute(
                update(SessionRow).where(SessionRow.id == keep).values(handle_hash=None)
            )
            session.execute(
                update(OneTimeLink)
                .where(
                    OneTimeLink.user_id == row.id,
                    OneTimeLink.used_at.is_(None),
                    OneTimeLink.revoked_at.is_(None),
                )
                .values(revoked_at=now)
            )
            self._note(session, "account.password-changed", actor)

    def end_session(self, actor: Actor, session_id: str) -> None:
        """Ends one of the actor's own sessions. Raises `NotFound`."""
        actor.require("profile")
        if all(own.id != session_id for own in self._sessions.of_user(actor.user_id)):
            raise NotFound("This session has ended already.")
        self._sessions.end(session_id, reason=ELSEWHERE)

    def end_other_sessions(self, actor: Actor) -> int:
        """Ends all of the actor's sessions but the one that asks; how many there were."""
        actor.require("profile")
        return self._sessions.end_others(actor.user_id, keep=actor.session_id or "")

    def events(self, actor: Actor, *, cursor: str | None = None, limit: int = 20) -> AuditPage:
        """What happened to the actor's account, the newest first: sign-ins, failures, changes."""
        actor.require("profile")
        wanted = AuditFilter(owner_id=actor.user_id, without=NOT_OF_ACCOUNTS)
        return self._audit.entries(actor, wanted, cursor=cursor, limit=limit)

    # --- the end ---

    def delete(self, actor: Actor, user_id: str, *, confirmation: str | None = None) -> None:
        """Deletes an account for good: one's own, whose user name has to be typed as the
        `confirmation`, or somebody's by whoever manages users.

        Sessions, leases, tokens and grants end with it, stored keys are shredded, and every project
        is to delete what it has (`erasures`). Raises `NotFound`, `InvalidInput`, `Conflict` for the
        last administrator, `ReauthenticationRequired`.
        """
        own = actor.user_id == user_id
        actor.require("profile" if own else "users:manage")
        now = self._clock()
        actor.require_proof(now)
        with self._database.write() as session:
            self._database.one_at_a_time(session)  # or two would each leave the other as the last
            row = session.get(UserRow, user_id, with_for_update=True)
            if row is None:
                raise NotFound("There is no such user.")
            if own and normalise_username(confirmation or "") != row.username:
                raise InvalidInput({"confirmation": "Type your user name to confirm this."})
            if row.role == "administrator" and row.disabled_at is None:
                _refuse_last(session, row)
            for project in PROJECTS:
                if project.installed:
                    session.add(
                        Erasure(
                            user_id=user_id,
                            project_id=project.id,
                            username=row.username,
                            asked_at=now,
                        )
                    )
            # All that is the user's goes with the row.
            session.execute(delete(UserRow).where(UserRow.id == user_id))
            self._audit.append(session, Event("user.deleted", actor.user_id, user_id, user_id))
        self._database.scrub()

    def erasures(self, project_id: str, *, limit: int = 500) -> list[DueErasure]:
        """The deleted users whose data this project still has to delete, the first ones first."""
        now = self._clock()
        query = (
            select(Erasure)
            .where(Erasure.project_id == project_id)
            .order_by(Erasure.asked_at, Erasure.user_id)
            .limit(limit)
        )
        with self._database.read() as session:
            rows = session.scalars(query).all()
        return [
            DueErasure(row.user_id, row.username, row.asked_at, now >= row.asked_at + FINAL_AFTER)
            for row in rows
        ]

    def erased(self, project_id: str, user_id: str) -> None:
        """The project has deleted all that it had of this user.

        Raises `NotFound`, and `Conflict` as long as user tokens may still be in use.
        """
        now = self._clock()
        with self._database.write() as session:
            row = session.get(Erasure, (user_id, project_id), with_for_update=True)
            if row is None:
                raise NotFound("Nothing is to be deleted of this user.")
            if now < row.asked_at + FINAL_AFTER:
                raise Conflict(
                    "Tokens of this user may still be in use. Delete again when it is final."
                )
            session.delete(row)
            session.flush()
            self._audit.append(
                session,
                Event("user.erased", project_id, user_id, user_id, project_id=project_id),
            )

    # --- within ---

    def _own(self, session: Session, actor: Actor) -> UserRow:
        row = session.get(UserRow, actor.user_id)
        if row is None or row.disabled_at is not None:
            raise Unauthenticated
        return row

    def _note(self, session: Session, action: str, actor: Actor, outcome: str = "ok") -> None:
        session.flush()
        event = Event(action, actor.user_id, actor.user_id, actor.user_id, outcome=outcome)
        self._audit.append(session, event)

    def _set_email(self, session: Session, row: UserRow, email: str) -> bool:
        """False where another account has it."""
        try:
            with session.begin_nested():
                row.email = email or None
                row.email_key = email_key(email)
                row.email_verified_at = None
                session.flush()
        except IntegrityError:
            session.expire(row)
            return False
        return True


def _refuse_last(session: Session, row: UserRow) -> None:
    others = session.scalar(
        select(func.count())
        .select_from(UserRow)
        .where(UserRow.role == "administrator", UserRow.disabled_at.is_(None), UserRow.id != row.id)
    )
    if not others:
        raise Conflict(LAST_ADMINISTRATOR)
