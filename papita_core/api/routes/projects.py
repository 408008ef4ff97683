"""`/api/projects/{id}`: what the dashboard shows and does, for scripts too."""

from __future__ import annotations

from fastapi import APIRouter

from papita_core.api.deps import CallingActor, CallingParts
from papita_core.api.routes.credentials import problems_for
from papita_core.api.schemas import LaunchAnswer, WhichAnswer

router = APIRouter(prefix="/projects", tags=["projects"])


@router.post(
    "/{project_id}/launch",
    response_model=LaunchAnswer,
    responses=problems_for(401, 403, 404, 503),
    operation_id="launchProject",
    summary="Start and open a project",
)
def launch(project_id: str, caller: CallingActor, shared: CallingParts) -> LaunchAnswer:
    """Starts the project where this machine manages it, waits until it is healthy, and gives the
    token with which the caller uses it. 503 with the reason where it cannot be had.
    """
    caller.require("projects:launch")
    project = shared.papita.projects.get(project_id)
    shared.papita.projects.require_enabled(project.id)
    shared.runner.ensure_running(project.id)
    token = shared.papita.projects.user_token(caller, project.id)
    return LaunchAnswer(
        project_id=project.id,
        token=token.token,
        expires_at=token.expires_at,
        url=shared.runner.url(project.id),
    )


@router.get(
    "/{project_id}/credential",
    response_model=WhichAnswer,
    responses=problems_for(401, 403, 404),
    operation_id="getProjectCredential",
    summary="Which credential a project would get, and why",
)
def which(project_id: str, caller: CallingActor, shared: CallingParts) -> WhichAnswer:
    """By the rule that lends: the caller's own for the project, then for all projects, then what
    others share. For a personal access token with `credentials:read` or `projects:launch`.
    """
    return WhichAnswer.model_validate(shared.papita.grants.which(caller, project_id))
