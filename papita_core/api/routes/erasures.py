"""`/api/erasures`: which deleted users' data a project has to delete, and that it has."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from papita_core.api.deps import CallingParts, CallingProject
from papita_core.api.routes.credentials import problems_for
from papita_core.api.schemas import DueErasures, ErasureDue

router = APIRouter(prefix="/erasures", tags=["erasures"])


@router.get(
    "",
    response_model=DueErasures,
    responses=problems_for(401),
    operation_id="listErasures",
    summary="Deleted users whose data the project still has to delete",
)
def erasures(project_id: CallingProject, shared: CallingParts) -> DueErasures:
    """Client authentication by HTTP Basic. At most 500, the first ones first.

    Delete what there is of each at once, whether or not it is `final`: until then a token of the
    user may still bring something new. Once it is, delete again and say so.
    """
    return DueErasures(
        erasures=[
            ErasureDue(
                user_id=item.user_id,
                username=item.username,
                asked_at=item.asked_at,
                final=item.final,
            )
            for item in shared.papita.account.erasures(project_id)
        ]
    )


@router.delete(
    "/{user_id}",
    status_code=204,
    responses=problems_for(401, 404, 409, 503),
    operation_id="confirmErasure",
    summary="The project has deleted all that it had of this user",
)
def erased(
    project_id: CallingProject,
    user_id: Annotated[str, Path(max_length=64)],
    shared: CallingParts,
) -> Response:
    """Client authentication by HTTP Basic. 409 before it is `final`."""
    shared.papita.account.erased(project_id, user_id)
    return Response(status_code=204)
