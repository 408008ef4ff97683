"""Which account somebody has who has proved at a provider who they are.

Known by issuer and subject alone. An e-mail leads to an account only where administrators have
decided so and both sides have verified it: whoever can make a provider say an e-mail would else be
whoever has it here.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock
from papita_core.db import Database, new_id
from papita_core.errors import AlreadyExists, Conflict, NotFound, VaultSealed
from papita_core.users.events import note
from papita_core.users.models import OidcIdentity, Passkey, UserRow
from papita_core.users.oidc.errors import Reason, Refused
from papita_core.users.oidc.providers import Provider
from papita_core.users.policies import PolicyService
from papita_core.users.service import EMAIL, NewUser, User, UserService, email_key, to_user
from papita_core.users.sessions import SessionService

log = logging.getLogger(__name__)

ACTOR = "provider"
ROLE_CHANGED = "user.role-changed"
UNLINKED = "provider-unlinked"  # why a session ended
NAMES_TRIED = 50


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, as a provider has just described them. `email` only where it is one."""

    issuer: str
    subject: str
    email: str | None = None
    email_verified: bool = False
    username: str = ""
    name: str = ""
    groups: frozenset[str] = frozenset()

    @classmethod
    def of(cls, provider: Provider, claims: Mapping[str, Any]) -> Person:
        """From verified claims; what is malformed counts as missing."""
        email = _line(claims.get("email"), 320)
        email = email if EMAIL.fullmatch(email) else ""
        said = claims.get("email_verified")
        verified = said is True or said == "true"
        if provider.trusted_email is not None:
            verified = provider.trusted_email and (verified or said is None)
        return cls(
            provider.issuer,
            str(claims["sub"]),
            email or None,
            bool(email) and verified,
            _line(claims.get("preferred_username"), 320),
            _line(claims.get("name"), 200),
            frozenset(_groups(provider, claims)),
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """An account at a provider, as its user sees it."""

    id: str
    provider: str
    email: str | None
    created_at: datetime
    last_used_at: datetime | None


@dataclass(slots=True)
class _Found:
    """Whom an identity leads to; or why it leads nowhere. `changes` were made on the way, and
    `role_before` is there if one of them was to the role.
    """

    user: UserRow | None = None
    refused: Reason | None = None
    changes: list[Event] = field(default_factory=list)
    role_before: str | None = None


class IdentityService:
    def __init__(
        self,
        database: Database,
        users: UserService,
        policies: PolicyService,
        sessions: SessionService,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._database = database
        self._users = users
        self._policies = policies
        self._sessions = sessions
        self._audit = audit
        self._clock = clock

    def knows(self, issuer: str, subject: str) -> bool:
        """Whether an account is linked with this identity."""
        with self._database.read() as session:
            return self._identity(session, issuer, subject) is not None

    def sign_in(self, provider: Provider, person: Person, *, address: str = "") -> User:
        """The account of this person, made or linked now if that is allowed. Raises `Refused`, and
        `VaultSealed` where an account would have to be made.
        """
        by_email = self._policies.current().link_by_email
        with self._database.write() as session:
            # Two who come for the first time, at the same moment and with the same identity, get
            # one account; and of two administrators who lose their role one keeps it.
            self._database.one_at_a_time(session)
            found = self._find(session, provider, person, by_email)
            refused = found.refused or (None if found.user is not None else "no-account")
            if refused is not None:
                owner = None if found.user is None else found.user.id
                details = {"method": "oidc", "provider": provider.name, "address": address[:64]}
                note(
                    self._audit,
                    session,
                    Event("sign-in.failed", owner_id=owner, outcome=refused, details=details),
                )
            self._record(session, provider, found)
            user = None if found.user is None else to_user(found.user)
        if refused is not None or user is None:
            raise Refused(refused or "no-account")
        return user

    def _record(self, session: Session, provider: Provider, found: _Found) -> None:
        if not found.changes:
            return
        session.flush()  # whoever holds the end of the log waits for no other lock
        try:
            self._audit.append(session, *found.changes)
        except VaultSealed:
            # No row of the log, no change: a role waits for the next sign-in, a link is not made.
            if found.user is None or any(each.action != ROLE_CHANGED for each in found.changes):
                raise
            log.warning("provider %s: a role stays, since the vault is sealed", provider.name)
            found.user.role = found.role_before or found.user.role

    def _find(self, session: Session, provider: Provider, person: Person, by_email: bool) -> _Found:
        role = provider.role_of(set(person.groups)) if provider.roles else None
        identity = self._identity(session, person.issuer, person.subject)
        if identity is None:
            found = self._first_time(session, provider, person, role, by_email)
        else:
            found = _Found(session.get_one(UserRow, identity.user_id))
            identity.last_used_at = self._clock()
            identity.email = person.email or identity.email
        if found.user is None or found.refused is not None:
            return found
        if found.user.awaits_approval_since is not None:
            found.refused = "approval"
        elif found.user.disabled_at is not None:
            found.refused = "disabled"
        elif provider.roles and role is None:
            found.refused = "no-role"
        elif role is not None:
            self._give_role(session, provider, found, role)
        return found

    def _first_time(
        self,
        session: Session,
        provider: Provider,
        person: Person,
        role: str | None,
        by_email: bool,
    ) -> _Found:
        key = email_key(person.email) if person.email_verified else None
        same = key and session.scalar(select(UserRow).where(UserRow.email_key == key))
        if same:
            if by_email and same.email_verified_at is not None and same.disabled_at is None:
                linked = self._link(session, provider, person, same.id, ACTOR, how="e-mail")
                return _Found(same, changes=[linked])
            return _Found(refused="email-taken")
        if provider.sign_up is False:
            return _Found(refused="no-account")
        role = role if provider.roles else provider.role_of(set())
        if role is None:
            return _Found(refused="no-role")
        row = self._new_account(
            session,
            person,
            role,
            with_email=key is not None,
            waiting=provider.sign_up == "approval",
        )
        linked = self._link(session, provider, person, row.id, ACTOR, how="new account")
        return _Found(row, changes=[linked])

    def _new_account(
        self,
        session: Session,
        person: Person,
        role: str,
        *,
        with_email: bool,
        waiting: bool,
    ) -> UserRow:
        email = person.email if with_email else None
        for name in _usernames(person):
            if session.scalar(select(UserRow.id).where(UserRow.username == name)) is not None:
                continue
            try:
                new = NewUser(name, "", person.name, email=email, role=role)
                made = self._users.add(session, new, "", actor_id=ACTOR, waiting=waiting)
            except AlreadyExists:
                continue  # somebody has taken it in this moment
            return session.get_one(UserRow, made.id)
        raise AlreadyExists

    def _give_role(self, session: Session, provider: Provider, found: _Found, role: str) -> None:
        """What the provider's groups say; but somebody has to be left who can administer this."""
        row = found.user
        if row is None or row.role == role:
            return
        try:
            self._users.keep_an_administrator(session, row)
        except Conflict:
            log.warning(
                "provider %s: its groups would take the last administrator away", provider.name
            )
            return
        found.role_before, row.role = row.role, role
        if role == "guest":
            self._users.take_back(session, row.id)
        details = {"role": role, "before": found.role_before, "provider": provider.name}
        found.changes.append(Event(ROLE_CHANGED, ACTOR, row.id, row.id, details=details))

    # --- linking by hand ---

    def link(self, user_id: str, provider: Provider, person: Person) -> None:
        """Links the identity with an account whose user is signed in and has proved it.

        Raises `Refused` if it belongs to another account, and `VaultSealed`.
        """
        with self._database.write() as session:
            self._database.one_at_a_time(session)
            identity = self._identity(session, person.issuer, person.subject)
            if identity is None:
                linked = self._link(session, provider, person, user_id, user_id, how="profile")
                self._audit.append(session, linked)
            elif identity.user_id != user_id:
                raise Refused("linked-elsewhere")

    def belongs(self, user_id: str, person: Person) -> bool:
        """Whether the identity is linked with this account."""
        with self._database.read() as session:
            identity = self._identity(session, person.issuer, person.subject)
            return identity is not None and identity.user_id == user_id

    def of_user(self, user_id: str) -> list[Identity]:
        """The identities of a user, the oldest first."""
        with self._database.read() as session:
            rows = session.scalars(
                select(OidcIdentity)
                .where(OidcIdentity.user_id == user_id)
                .order_by(OidcIdentity.created_at, OidcIdentity.id)
            ).all()
        return [
            Identity(row.id, row.provider, row.email, row.created_at, row.last_used_at)
            for row in rows
        ]

    def unlink(self, actor: Actor, identity_id: str, providers: Mapping[str, Provider]) -> None:
        """Takes an identity of the actor away, and ends the other sessions that began with it.

        Raises `ReauthenticationRequired`, `NotFound`, and `Conflict` where it is the only way in.
        """
        actor.require("profile")
        now = self._clock()
        actor.require_proof(now)
        with self._database.write() as session:
            # The user's row is the queue: of two at once, the second one sees what is left.
            row = session.scalar(
                select(UserRow).where(UserRow.id == actor.user_id).with_for_update()
            )
            identity = session.get(OidcIdentity, identity_id)
            if row is None or identity is None or identity.user_id != row.id:
                raise NotFound("There is no such account of yours at a provider.")
            if not row.password_hash and not self._other_way_in(session, identity, providers):
                raise Conflict("This is your only way in. Set a password or add a passkey first.")
            self._sessions.end_at_provider(
                session,
                identity.issuer,
                subject=identity.subject,
                keep=actor.session_id,
                reason=UNLINKED,
            )
            session.delete(identity)
            session.flush()
            self._audit.append(
                session,
                Event(
                    "identity.unlinked",
                    actor.user_id,
                    row.id,
                    identity_id,
                    details={"provider": identity.provider},
                ),
            )

    def _other_way_in(
        self, session: Session, identity: OidcIdentity, providers: Mapping[str, Provider]
    ) -> bool:
        issuers = [provider.issuer for provider in providers.values()]
        other = session.scalar(
            select(OidcIdentity.id)
            .where(
                OidcIdentity.user_id == identity.user_id,
                OidcIdentity.id != identity.id,
                OidcIdentity.issuer.in_(issuers),
            )
            .limit(1)
        )
        passkey = session.scalar(
            select(Passkey.id).where(Passkey.user_id == identity.user_id).limit(1)
        )
        return other is not None or passkey is not None

    def _identity(self, session: Session, issuer: str, subject: str) -> OidcIdentity | None:
        return session.scalar(
            select(OidcIdentity).where(
                OidcIdentity.issuer == issuer, OidcIdentity.subject == subject
            )
        )

    def _link(
        self,
        session: Session,
        provider: Provider,
        person: Person,
        user_id: str,
        actor_id: str,
        *,
        how: str,
    ) -> Event:
        now = self._clock()
        identity_id = new_id()
        session.add(
            OidcIdentity(
                id=identity_id,
                user_id=user_id,
                provider=provider.name,
                issuer=person.issuer,
                subject=person.subject,
                email=person.email,
                created_at=now,
                last_used_at=now,
            )
        )
        session.flush()
        details = {"provider": provider.name, "how": how}
        return Event("identity.linked", actor_id, user_id, identity_id, details=details)


def _usernames(person: Person) -> list[str]:
    """Names to try, the best first: what the provider calls them, what stands before the @."""
    wished = [person.username, person.email or "", person.name]
    base = next(filter(None, (_slug(wish.partition("@")[0]) for wish in wished)), "user")
    return [base, *(f"{base}-{number}" for number in range(2, NAMES_TRIED)), f"{base}-{new_id()}"]


def _slug(text: str) -> str:
    """What is left of it in a user name."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+$|^[^a-z0-9]+", "", re.sub(r"[^a-z0-9._-]+", "-", plain)[:24])


def _line(value: Any, most: int) -> str:
    """One line of text; nothing where it is none."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text if len(text) <= most and text.isprintable() else ""


def says_groups(provider: Provider, claims: Mapping[str, Any]) -> bool:
    """Whether the claim that the table names is there."""
    return _claim(provider.groups_claim, claims) is not None


def _claim(name: str | None, claims: Mapping[str, Any]) -> Any:
    """`realm_access.roles` is a claim within another."""
    if name is None or name in claims:
        return claims.get(name or "")
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _groups(provider: Provider, claims: Mapping[str, Any]) -> list[str]:
    found = _claim(provider.groups_claim, claims)
    if found is None and provider.groups_claim is not None:
        log.warning("provider %s: there is no groups_claim in what it says", provider.name)
    if isinstance(found, str):
        return [found]
    return [group for group in found if isinstance(group, str)] if isinstance(found, list) else []
