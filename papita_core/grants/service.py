"""Grants and leases: a user's consent, and what a project makes of it for a few minutes.

A grant lasts until its user revokes it. A lease is made from a user token that the project
exchanges (RFC 8693); it reads one type of credential of one user, for one project. The rows are the
authority: revoking a grant ends its leases in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, new_id
from papita_core.errors import (
    ClientRefused,
    ConsentRequired,
    NotFound,
    TokenRequestRefused,
)
from papita_core.grants.models import GrantRow, LeaseRow
from papita_core.grants.user_tokens import Claims, TokenInvalid, UserTokens
from papita_core.projects.catalogue import PROJECTS, Project
from papita_core.secret import Secret
from papita_core.settings import Settings
from papita_core.users.models import AccessTokenRow, SessionRow, UserRow
from papita_core.users.tokens import new_token, token_hash

LEASE_LIFE = timedelta(minutes=5)
LEASE_PREFIX = "papita_lease_"
SCOPE = "credential:use"


@dataclass(frozen=True, slots=True)
class Grant:
    """One project may use one type of the user's credentials, since `created_at`."""

    id: str
    project_id: str
    credential_type: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ProjectToken:
    """What an exchange gives. `expires_in` is in seconds."""

    token: str = field(repr=False)
    lease_id: str
    expires_in: int


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

        Raises `TokenRequestRefused`, `ConsentRequired` and `VaultSealed`.
        """
        if credential_type not in _project(project_id).credential_types:
            raise TokenRequestRefused(
                "invalid_scope", "This project may not use this type of credential."
            )
        try:
            claims = self._tokens.verify(subject_token, project_id)
        except TokenInvalid:
            raise _invalid_grant() from None
        token, now = new_token(LEASE_PREFIX), self._clock()
        with self._database.write() as session:
            self._check_live(session, claims, now)
            grant_id = self._consent(session, claims, project_id, credential_type)
            lease = LeaseRow(
                id=new_id(),
                token_hash=token_hash(token),
                user_id=claims.user_id,
                project_id=project_id,
                credential_type=credential_type,
                grant_id=grant_id,
                session_id=claims.session_id,
                access_token_id=claims.access_token_id,
                created_at=now,
                expires_at=now + LEASE_LIFE,
                revoked_at=None,
            )
            session.add(lease)
            self._audit.append(
                session,
                Event(
                    "lease.issued",
                    project_id,
                    claims.user_id,
                    grant_id,
                    project_id,
                    lease.id,
                    request_id,
                    details={"type": credential_type},
                ),
            )
        return ProjectToken(token, lease.id, int(LEASE_LIFE.total_seconds()))

    def _check_live(self, session: Session, claims: Claims, now: datetime) -> None:
        user = session.get(UserRow, claims.user_id)
        if user is None or user.disabled_at is not None:
            raise _invalid_grant()
        if claims.session_id is not None:
            signed_in = session.get(SessionRow, claims.session_id)
            if (
                signed_in is None
                or signed_in.user_id != user.id
                or signed_in.ended_at is not None
                or signed_in.expires_at <= now
                or signed_in.last_seen_at <= now - self._idle
            ):
                raise _invalid_grant()
            return
        token = session.get(AccessTokenRow, claims.access_token_id)
        if (
            token is None
            or token.user_id != user.id
            or token.revoked_at is not None
            or (token.expires_at is not None and token.expires_at <= now)
        ):
            raise _invalid_grant()

    def _consent(
        self, session: Session, claims: Claims, project_id: str, credential_type: str
    ) -> str | None:
        if claims.access_token_id is not None:
            return None  # a token with `projects:launch` carries the consent of whoever made it
        grant_id = session.scalar(
            select(GrantRow.id).where(
                GrantRow.user_id == claims.user_id,
                GrantRow.project_id == project_id,
                GrantRow.credential_type == credential_type,
                GrantRow.revoked_at.is_(None),
            )
        )
        if grant_id is None:
            raise ConsentRequired
        return grant_id


def _invalid_grant() -> TokenRequestRefused:
    return TokenRequestRefused(
        "invalid_grant",
        "The user token is not valid any more. The user has to open the project again.",
    )


def _project(project_id: str) -> Project:
    for project in PROJECTS:
        if project.id == project_id:
            return project
    raise NotFound("There is no such project here.")
