"""Grants and leases: a user's consent, and what a project makes of it for a few minutes.

A grant lasts until its user revokes it. A lease is made from a user token that the project
exchanges (RFC 8693); it reads one type of credential of one user, for one project. The rows are the
authority: revoking a grant ends its leases in the same transaction.

Which credential a project gets, what it has read and whether a loan still holds are answered here
by the same rules that lend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import exists, or_, select, update
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter, AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import AnyRow, Database, new_id
from papita_core.errors import (
    ClientRefused,
    ConsentRequired,
    CredentialNotFound,
    Forbidden,
    NotFound,
    PapitaError,
    ProjectDisabled,
    TokenRequestRefused,
    Unauthenticated,
)
from papita_core.grants.candidates import Found
from papita_core.grants.choosing import (
    ALL_PROJECTS,
    PROJECT,
    Choice,
    Need,
    choose,
    fits,
    unusable,
)
from papita_core.grants.exchanges import Exchange, Exchanges, ProjectToken, invalid_grant
from papita_core.grants.leases import LEASE, LEASES, lost, need_of, signed_in
from papita_core.grants.models import GrantRow, LeaseRow
from papita_core.grants.user_tokens import TokenInvalid, UserTokens
from papita_core.projects.catalogue import PROJECTS, Project
from papita_core.projects.models import ProjectState
from papita_core.secret import Secret
from papita_core.settings import Settings
from papita_core.usage.budgets import refusal, spending_of
from papita_core.users.tokens import new_token
from papita_core.vault.models import Credential, CredentialShare
from papita_core.vault.records import Page

LEASE_PREFIX = "papita_lease_"
SCOPE = "credential:use"
READ = "credential.read"
MAX_CHECKED = 500
SESSION_ENDED = "session-ended"
USER_DISABLED = "user-disabled"


@dataclass(frozen=True, slots=True)
class Grant:
    """One project may use one type of the user's credentials, since `created_at`."""

    id: str
    project_id: str
    credential_type: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Read:
    """One time that a project asked for a credential. `outcome` is ok, or the code of a refusal.

    `label` is None where the credential is gone or is none of the user's any more.
    """

    at: datetime
    credential_id: str | None
    label: str | None
    run_id: str | None
    outcome: str


@dataclass(frozen=True, slots=True)
class WhichCredential:
    """`shared_by` is the user name of whoever shares it; None for an own one."""

    id: str
    label: str
    credential_type: str
    shared_by: str | None


@dataclass(frozen=True, slots=True)
class Which:
    """Which credential a project would get now, and why; or why none.

    `reason` is project, all-projects or shared; `code` is that of the refusal. One of both is None.
    """

    project_id: str
    credential: WhichCredential | None
    reason: str | None
    code: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A loan that would not be granted any more, and why."""

    lease_id: str
    credential_id: str
    code: str
    detail: str


class GrantService:
    def __init__(
        self,
        database: Database,
        tokens: UserTokens,
        audit: AuditLog,
        settings: Settings,
        client_secret: Secret,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._audit = audit
        self._clients = {settings.client_id: ("al-chat", client_secret)}
        self._idle = timedelta(minutes=settings.session_idle_minutes)
        self._clock = clock
        self._exchanges = Exchanges(database, audit, self._idle, clock)

    # --- consent ---

    def allowed(self, actor: Actor, project_id: str) -> bool:
        """Whether the user allows the project to use every type of credential that it needs."""
        project = _project(project_id)
        with self._database.read() as session:
            granted = set(
                session.scalars(
                    select(GrantRow.credential_type).where(
                        GrantRow.user_id == actor.user_id,
                        GrantRow.project_id == project_id,
                        GrantRow.revoked_at.is_(None),
                    )
                )
            )
        return granted.issuperset(project.credential_types)

    def allow(self, actor: Actor, project_id: str) -> None:
        """Records the consent. Allowing twice is no error."""
        actor.require("projects:launch")
        project = _project(project_id)
        with self._database.write() as session:
            for credential_type in project.credential_types:
                grant_id = session.scalar(
                    self._database.insert_new(GrantRow)
                    .values(
                        id=new_id(),
                        user_id=actor.user_id,
                        project_id=project_id,
                        credential_type=credential_type,
                        created_at=self._clock(),
                        revoked_at=None,
                    )
                    .returning(GrantRow.id)
                )
                if grant_id is None:
                    continue
                self._audit.append(
                    session,
                    Event(
                        "grant.allowed",
                        actor.user_id,
                        actor.user_id,
                        grant_id,
                        project_id,
                        details={"type": credential_type},
                    ),
                )

    def revoke(self, actor: Actor, project_id: str) -> None:
        """Ends the consent and every lease of the user for this project, at once."""
        actor.require("projects:launch")
        now = self._clock()
        with self._database.write() as session:
            ended = session.scalars(
                update(GrantRow)
                .where(
                    GrantRow.user_id == actor.user_id,
                    GrantRow.project_id == project_id,
                    GrantRow.revoked_at.is_(None),
                )
                .values(revoked_at=now)
                .returning(GrantRow.id),
                execution_options={"synchronize_session": False},
            ).all()
            session.execute(
                update(LeaseRow)
                .where(
                    LeaseRow.user_id == actor.user_id,
                    LeaseRow.project_id == project_id,
                    LeaseRow.revoked_at.is_(None),
                )
                .values(revoked_at=now)
            )
            if ended:
                self._audit.append(
                    session,
                    *(
                        Event("grant.revoked", actor.user_id, actor.user_id, grant_id, project_id)
                        for grant_id in ended
                    ),
                )

    def list(self, actor: Actor) -> list[Grant]:
        """The user's live grants, oldest first."""
        with self._database.read() as session:
            rows = session.scalars(
                select(GrantRow)
                .where(GrantRow.user_id == actor.user_id, GrantRow.revoked_at.is_(None))
                .order_by(GrantRow.created_at)
            ).all()
        return [Grant(row.id, row.project_id, row.credential_type, row.created_at) for row in rows]

    def reads(
        self, actor: Actor, project_id: str, *, cursor: str | None = None, limit: int = 50
    ) -> Page[Read]:
        """Each time that the project asked for a credential of the actor, newest first.

        Raises `InvalidInput` for a bad `limit` or `cursor`.
        """
        _project(project_id)
        wanted = AuditFilter(owner_id=actor.user_id, action=READ, project_id=project_id)
        page = self._audit.entries(actor, wanted, cursor=cursor, limit=limit)
        with self._database.read() as session:
            labels = _labels(session, actor, {entry.event.subject_id for entry in page.items})
        items = [
            Read(
                entry.at,
                entry.event.subject_id,
                labels.get(entry.event.subject_id or ""),
                entry.event.run_id,
                entry.event.outcome,
            )
            for entry in page.items
        ]
        return Page(items, page.next_cursor)

    # --- what lending would say ---

    def which(self, actor: Actor, project_id: str) -> Which:
        """The credential that the project would get, once the user allows it.

        Needs `credentials:read` or `projects:launch`. Raises `NotFound`.
        """
        if not (actor.may("credentials:read") or actor.may("projects:launch")):
            raise Forbidden
        project = _project(project_id)
        need = Need(actor.user_id, project_id, project.credential_types[0])
        with self._database.read() as session:
            if _switched_off(session, project_id):
                refused = ProjectDisabled()
                return Which(project_id, None, None, refused.code, refused.detail)
            found = Found.read(session, [need])
        now = self._clock()
        choice = choose(found.of(actor.user_id), need, now)
        if not isinstance(choice, Choice):
            return Which(project_id, None, None, choice.code, choice.detail)
        row = found.rows[choice.candidate.id]
        used_up = refusal(spending_of(row, now), project_id, now)
        if used_up is not None:
            return Which(project_id, None, None, used_up.code, used_up.detail)
        own = row.owner_id == actor.user_id
        credential = WhichCredential(
            row.id, row.label, row.credential_type, None if own else row.username
        )
        sentence = _because(choice.reason, project, row)
        return Which(project_id, credential, choice.reason, None, sentence)

    def check(self, project_id: str, loans: Sequence[tuple[str, str]]) -> Sequence[Ended]:
        """Those of the loans (lease id, credential id), at most 500, that would be refused by now.

        That a lease has run out of its five minutes does not count: an answer may take longer. A
        lease that is not there, or is another project's, has ended.
        """
        if len(loans) > MAX_CHECKED:
            raise ValueError("too many loans at once")
        now = self._clock()
        with self._database.read() as session:
            query = LEASES.where(
                LEASE.c.id.in_({lease_id for lease_id, _ in loans}),
                LEASE.c.project_id == project_id,
            )
            leases = {row.id: row for row in session.execute(query)}
            found = Found.read(session, [need_of(row) for row in leases.values()])
        ended = []
        for lease_id, credential_id in loans:
            why = self._ended(leases.get(lease_id), credential_id, found, now)
            if why is not None:
                ended.append(Ended(lease_id, credential_id, *why))
        return ended

    def _ended(
        self, lease: AnyRow | None, credential_id: str, found: Found, now: datetime
    ) -> tuple[str, str] | None:
        """Code and sentence, or None where the loan still holds."""
        if lease is None:
            return SESSION_ENDED, "The project's access has ended. Open the project again."
        if lease.disabled_at is not None:
            return USER_DISABLED, "An administrator has disabled this user."
        why = lost(lease, now, self._idle)
        # Before the sign-in, whose end stops no answer that was begun under it.
        if why is None or isinstance(why, Unauthenticated):
            why = _withdrawn(lease, credential_id, found, now) or why
        if isinstance(why, Unauthenticated):
            if lease.access_token_id is None:
                return SESSION_ENDED, "The sign-in has ended. Sign in again."
            if lease.token_revoked_at is None and not signed_in(lease, now, self._idle):
                return SESSION_ENDED, "The access token has expired. Make a new one."
            why = ConsentRequired()  # taken back: the token itself, or what was borrowed with it
        return None if why is None else (why.code, why.detail)

    # --- exchange ---

    def client_project(self, client_id: str, client_secret: str) -> str:
        """The project that a client is. Raises `ClientRefused`."""
        project_id, expected = self._clients.get(client_id, ("", Secret("")))
        if not expected or not expected.matches(client_secret):
            raise ClientRefused
        return project_id

    def exchange(
        self,
        project_id: str,
        subject_token: str,
        credential_type: str,
        *,
        request_id: str | None = None,
    ) -> ProjectToken:
        """A project token for the user of `subject_token`.

        Raises `TokenRequestRefused`, `ProjectDisabled`, `ConsentRequired` and `VaultSealed`.
        """
        if credential_type not in _project(project_id).credential_types:
            raise TokenRequestRefused(
                "invalid_scope", "This project may not use this type of credential."
            )
        try:
            claims = self._tokens.verify(subject_token, project_id)
        except TokenInvalid:
            raise invalid_grant() from None
        asked = Exchange(claims, project_id, credential_type, request_id, new_token(LEASE_PREFIX))
        return self._exchanges.lease(asked)


def _switched_off(session: Session, project_id: str) -> bool:
    state = session.get(ProjectState, project_id)
    return state is not None and state.disabled_at is not None


def _labels(session: Session, actor: Actor, ids: set[str | None]) -> dict[str, str]:
    """The labels of those that the actor may know: own ones, and what others share."""
    shared = exists().where(
        CredentialShare.credential_id == Credential.id, CredentialShare.user_id == actor.user_id
    )
    query = select(Credential.id, Credential.label).where(
        Credential.id.in_(ids - {None}),
        or_(Credential.owner_id == actor.user_id, Credential.shared_with_all, shared),
    )
    return {row.id: row.label for row in session.execute(query)}


def _because(reason: str, project: Project, row: AnyRow) -> str:
    name = f"{project.title} uses “{row.label}”"
    if reason == PROJECT:
        why = f"{name}: your own credential for this project goes first."
    elif reason == ALL_PROJECTS:
        why = f"{name}: your own credential for all projects."
    else:
        why = f"{name}, which {row.username} shares: you have none of your own for it."
    if row.status == "rejected":
        return f"{why} The provider has rejected it; replace the key."
    if row.status == "unreadable":
        return f"{why} It cannot be read any more; replace the key."
    return why


def _withdrawn(
    lease: AnyRow, credential_id: str, found: Found, now: datetime
) -> PapitaError | None:
    """Why this credential is not lent on this lease any more, though another one might be."""
    need = need_of(lease)
    same = [
        item for item in found.of(lease.user_id) if item.id == credential_id and fits(item, need)
    ]
    return unusable(same[0], need, now) if same else CredentialNotFound()


def _project(project_id: str) -> Project:
    for project in PROJECTS:
        if project.id == project_id:
            return project
    raise NotFound("There is no such project here.")
