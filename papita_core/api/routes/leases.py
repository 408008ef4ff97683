"""`/api/leases/check`: what a project asks while it is writing an answer with a borrowed key."""

from __future__ import annotations

from fastapi import APIRouter

from papita_core.api.deps import CallingParts, CallingProject
from papita_core.api.routes.credentials import problems_for
from papita_core.api.schemas import EndedLoan, EndedLoans, LoansBody

router = APIRouter(prefix="/leases", tags=["leases"])


@router.post(
    "/check",
    response_model=EndedLoans,
    responses=problems_for(401, 413, 415, 422),
    operation_id="checkLeases",
    summary="Which of these loans have ended",
)
def check(project_id: CallingProject, body: LoansBody, shared: CallingParts) -> EndedLoans:
    """Client authentication by HTTP Basic. Names those loans that would be refused by now, so that
    the project stops what it does with them. That the five minutes of a lease are over is no end.
    """
    loans = [(loan.id, loan.credential_id) for loan in body.leases]
    return EndedLoans(
        ended=[
            EndedLoan(
                id=item.lease_id,
                credential_id=item.credential_id,
                code=item.code,
                detail=item.detail,
            )
            for item in shared.papita.grants.check(project_id, loans)
        ]
    )
