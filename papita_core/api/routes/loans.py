"""`/api/loans`: several keys at once, for a project that begins several answers in one moment."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from papita_core.api.deps import CallingParts, CallingProject
from papita_core.api.lending import NO_STORE, body_of
from papita_core.api.problems import of_papita
from papita_core.api.routes.credentials import problems_for
from papita_core.api.schemas import LoanOutcomes, WantedLoan, WantedLoans
from papita_core.errors import PapitaError
from papita_core.grants.lending import Lender, Loan, LoanRequest, all_done

router = APIRouter(prefix="/loans", tags=["leases"])


@router.post(
    "",
    response_model=LoanOutcomes,
    responses=problems_for(401, 413, 415, 422),
    operation_id="lendSeveral",
    summary="Lend credentials to several runs at once",
)
async def lend_several(
    project_id: CallingProject, body: WantedLoans, request: Request, shared: CallingParts
) -> Response:
    """Client authentication by HTTP Basic; each loan has its own project token beside that.

    Each is decided, audited and answered as `GET /api/credentials` would do, in the order asked
    for: what is refused to one changes nothing for the others.
    """
    lender = shared.papita.lender
    asked = [_asked(lender, project_id, wanted) for wanted in body.loans]
    # The loop is woken once, not by each.
    await asyncio.wrap_future(all_done(asked))
    found = [_outcome(request, one) for one in asked]
    return Response(orjson.dumps({"loans": found}), headers=NO_STORE, media_type="application/json")


def _asked(lender: Lender, project_id: str, wanted: WantedLoan) -> Future[Loan]:
    try:
        return lender.resolve(
            LoanRequest(
                *(wanted.token, wanted.username, wanted.credential_type, project_id),
                *(wanted.request_id, wanted.run_id, wanted.base_url),
            )
        )
    except PapitaError as error:
        refused: Future[Loan] = Future()
        refused.set_exception(error)
        return refused


def _outcome(request: Request, asked: Future[Loan]) -> dict[str, Any]:
    try:
        return {"status": 200, "loan": body_of(asked.result())}
    except PapitaError as error:
        answer = of_papita(request, error)
        wait = answer.headers.get("retry-after")
        return {
            "status": answer.status_code,
            "problem": json.loads(bytes(answer.body)),
            **({} if wait is None else {"retryAfter": int(wait)}),
        }
