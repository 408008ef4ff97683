"""Lending over HTTP: what projects ask again and again.

`LendingLane` answers a plain request for a loan before FastAPI matches routes and goes through all
parameters, which takes longer than lending does. Whatever is not exactly such a request takes the
described way through the routes, and gets the same answers there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from papita_core.api.deps import Parts, bearer
from papita_core.api.problems import of_papita
from papita_core.errors import PapitaError
from papita_core.grants.lending import Loan, LoanRequest
from papita_core.grants.service import LEASE_PREFIX

PATH = "/credentials"
MAX_PARAMETER = 64  # characters
NEEDED = frozenset({"username", "credentialType", "projectId"})
NO_STORE = {"Cache-Control": "no-store"}


class LendingLane:
    """Middleware of the API, before all others: what it answers needs none of them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await _answer(scope)
        await (self._app if response is None else response)(scope, receive, send)


async def _answer(scope: Scope) -> Response | None:
    """The loan or why there is none; None for what is not a plain request for one."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    if scope["path"].removeprefix(scope.get("root_path", "")) != PATH:
        return None
    request = Request(scope)
    try:
        wanted = _plain_request(request)
        if wanted is None:
            return None
        parts: Parts = request.app.state.parts
        return await lend(parts, wanted)
    except PapitaError as error:
        return of_papita(request, error)


def _plain_request(request: Request) -> LoanRequest | None:
    """A request for a loan with a project token and the parameters of one, each there once."""
    token = bearer(request)
    if token is None or not token.startswith(LEASE_PREFIX):
        return None
    found = request.query_params.multi_items()
    query = dict(found)
    if len(found) != len(query) or not NEEDED <= query.keys() <= NEEDED | {"runId"}:
        return None
    if any(len(value) > MAX_PARAMETER for value in query.values()):
        return None
    return LoanRequest(
        token,
        query["username"],
        query["credentialType"],
        query["projectId"],
        request_id(request),
        query.get("runId"),
    )


def request_id(request: Request) -> str | None:
    """What the caller calls this request, for the audit log."""
    return request.headers.get("x-request-id", "")[:64] or None


async def lend(parts: Parts, wanted: LoanRequest) -> Response:
    """The answer to a granted request. Raises what `Lender.resolve` does."""
    loan = await asyncio.wrap_future(parts.papita.lender.resolve(wanted))
    return JSONResponse(body_of(loan), headers=NO_STORE)


def body_of(loan: Loan) -> dict[str, Any]:
    """A loan on the wire."""
    spending = loan.spending
    return {
        "credentials": {
            "id": loan.credential_id,
            "credentialType": loan.credential_type,
            "projectId": loan.project_id,
            "baseUrl": loan.base_url,
            "credentials": loan.secret,
        },
        "lease": {"id": loan.lease_id, "expiresAt": loan.expires_at.isoformat()},
        **({} if spending is None else {"budget": spending.as_json()}),
    }
