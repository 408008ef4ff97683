"""Which projects there are, user tokens with which one calls them, and the switch of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import bindparam, func, select, update

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, Prepared, table_of
from papita_core.errors import NotFound, ProjectDisabled
from papita_core.grants.models import GrantRow, LeaseRow
from papita_core.grants.user_tokens import UserToken, UserTokens
from papita_core.projects.catalogue import PROJECTS, Project
from papita_core.projects.models import ProjectState

_STATE = table_of(ProjectState)
_DISABLED = Prepared(
    select(_STATE.c.project_id).where(
        _STATE.c.project_id == bindparam("which"), _STATE.c.disabled_at.is_not(None)
    )
)


class ProjectRunner(Protocol):
    """Knows where projects run, and starts those that this machine manages."""

    def url(self, project_id: str) -> str:
        """The project's base URL."""
        ...

    def ensure_running(self, project_id: str) -> None:
        """Returns when the project is healthy; blocks meanwhile.

        Raises `papita_core.errors.ProjectUnavailable` with the reason.
        """
        ...


@dataclass(frozen=True, slots=True)
class State:
    """A project as administrators see it. `users` is how many users allow it to use a key."""

    project: Project
    disabled_at: datetime | None
    users: int


class ProjectService:
    def __init__(
        self, database: Database, tokens: UserTokens, audit: AuditLog, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._audit = audit
        self._clock = clock

    def catalogue(self) -> tuple[Project, ...]:
        return PROJECTS

    def get(self, project_id: str) -> Project:
        """Raises `NotFound`, also for a project that is not installed."""
        for project in PROJECTS:
            if project.id == project_id and project.installed:
                return project
        raise NotFound("There is no such project here.")

    def is_disabled(self, project_id: str) -> bool:
        """Whether an administrator has switched the project off."""
        with self._database.look() as connection:
            return _DISABLED.first(connection, {"which": project_id}) is not None

    def states(self, actor: Actor) -> list[State]:
        """Every project of the catalogue, in its order."""
        actor.require("projects:manage")
        with self._database.read() as session:
            off = {row.project_id: row.disabled_at for row in session.scalars(select(ProjectState))}
            counts = session.execute(
                select(GrantRow.project_id, func.count(GrantRow.user_id.distinct()).label("users"))
                .where(GrantRow.revoked_at.is_(None))
                .group_by(GrantRow.project_id)
            )
            users = {row.project_id: row.users for row in counts}
        return [
            State(project, off.get(project.id), users.get(project.id, 0)) for project in PROJECTS
        ]

    def set_disabled(self, actor: Actor, project_id: str, disabled: bool) -> None:
        """The kill switch: off, nothing is lent to the project, and all that it holds is taken
        back in the same transaction. Users' consent stays. Raises `NotFound`.
        """
        actor.require("projects:manage")
        if all(project.id != project_id for project in PROJECTS):
            raise NotFound("There is no such project here.")
        now = self._clock()
        with self._database.write() as session:
            session.execute(
                self._database.insert_new(ProjectState).values(
                    project_id=project_id, disabled_at=None
                )
            )
            state = session.get_one(ProjectState, project_id, with_for_update=True)
            if disabled == (state.disabled_at is not None):
                return
            state.disabled_at = now if disabled else None
            if disabled:
                session.flush()
                session.execute(
                    update(LeaseRow)
                    .where(LeaseRow.project_id == project_id, LeaseRow.revoked_at.is_(None))
                    .values(revoked_at=now)
                )
            action = "project.disabled" if disabled else "project.enabled"
            self._audit.append(
                session,
                Event(action, actor.user_id, subject_id=project_id, project_id=project_id),
            )

    def require_enabled(self, project_id: str) -> None:
        """Raises `ProjectDisabled` for a project that is switched off."""
        if self.is_disabled(project_id):
            raise ProjectDisabled

    def user_token(self, actor: Actor, project_id: str) -> UserToken:
        """A token with which this user calls the project, for five minutes.

        Raises `NotFound`, `ProjectDisabled` and `VaultSealed`.
        """
        actor.require("projects:launch")
        project = self.get(project_id)
        self.require_enabled(project.id)
        return self._tokens.issue(actor, project.id)
