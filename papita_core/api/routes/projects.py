"""`/api/projects/{id}/launch`: what the dashboard's button does, for scripts too."""

from __future__ import annotations

from fastapi import APIRouter

from papita_core.api.deps import CallingActor, CallingParts
from papita_core.api.routes.credentials import PROBLEMS
from papita_core.api.schemas import LaunchAnswer

router = APIRouter(prefix="/projects", tags=["projects"], responses=PROBLEMS)


@router.post(
    "/{project_id}/launch", response_model=LaunchAnswer, summary="Start and open a project"
)
def launch(project_id: str, caller: CallingActor, shared: CallingParts) -> LaunchAnswer:
    """Starts the project where this machine manages it, waits until it is healthy, and gives the
    token with which the caller uses it. 503 with the reason where it cannot be had.
    """
    caller.require("projects:launch")
    project = shared.papita.projects.get(project_id)
    shared.runner.ensure_running(project.id)
    token = shared.papita.projects.user_token(caller, project.id)
    return LaunchAnswer(
        project_id=project.id,
        token=token.token,
        expires_at=token.expires_at,
        url=shared.runner.url(project.id),
    )
