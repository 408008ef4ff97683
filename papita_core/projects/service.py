"""Which projects there are, and user tokens with which one calls them."""

from __future__ import annotations

from typing import Protocol

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import NotFound
from papita_core.grants.user_tokens import UserToken, UserTokens
from papita_core.projects.catalogue import PROJECTS, Project
from papita_core.projects.models import ProjectState


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
        with self._database.read() as session:
            state = session.get(ProjectState, project_id)
            return state is not None and state.disabled_at is not None

    def user_token(self, actor: Actor, project_id: str) -> UserToken:
        """A token with which this user calls the project, for five minutes."""
        actor.require("projects:launch")
        return self._tokens.issue(actor, self.get(project_id).id)
