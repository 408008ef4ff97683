"""`/api/credentials`: keeping credentials, and lending one."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from papita_core.api.deps import CallingActor, CallingParts, Parts, actor, bearer
from papita_core.api.schemas import (
    CredentialAnswer,
    CredentialList,
    CredentialView,
    LoanAnswer,
    NewCredentialBody,
    Problem,
    ReplaceCredentialBody,
    TestAnswer,
)
from papita_core.errors import InvalidInput, PreconditionRequired, Unauthenticated
from papita_core.grants.lending import LoanRequest
from papita_core.grants.service import LEASE_PREFIX
from papita_core.vault.service import NewCredential, ReplaceCredential

PROBLEMS: dict[int | str, dict[str, object]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        401: "No valid caller.",
        403: "The caller may not do this.",
        404: "Not there, or not yours.",
        422: "Some fields need another value.",
        429: "Too many requests; see Retry-After.",
        503: "The vault is sealed.",
    }.items()
}
STALE: dict[int | str, dict[str, object]] = {
    412: {"model": Problem, "description": "It was changed meanwhile."},
    428: {"model": Problem, "description": "If-Match is missing."},
}
NO_STORE = {"Cache-Control": "no-store"}

router = APIRouter(prefix="/credentials", tags=["credentials"], responses=PROBLEMS)
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=100)]


@router.get(
    "",
    response_model=CredentialList | LoanAnswer,
    summary="List the caller's credentials, or lend one to a project",
)
async def list_or_lend(
    request: Request,
    shared: CallingParts,
    username: Annotated[str | None, Query(max_length=64)] = None,
    credential_type: Annotated[str | None, Query(alias="credentialType", max_length=64)] = None,
    project_id: Annotated[str | None, Query(alias="projectId", max_length=64)] = None,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """Without parameters: metadata of the caller's credentials, a page at a time.

    With a project token and `username`, `credentialType` and `projectId`: lends that one
    credential for the lease. The loan is in the audit log before it is answered.
    """
    token = bearer(request)
    if token is not None and token.startswith(LEASE_PREFIX):
        return await _lend(request, shared, token, username, credential_type, project_id)
    if username is not None or credential_type is not None or project_id is not None:
        # A lookup by name is what projects do; whoever has no project token gets no further.
        raise Unauthenticated("Lending takes a project token. Exchange a user token for one.")
    caller = await run_in_threadpool(actor, request)
    page = await run_in_threadpool(
        shared.papita.credentials.list, caller, cursor=cursor, limit=limit
    )
    answer = CredentialList(
        credentials=[CredentialView.of(item) for item in page.items], next_cursor=page.next_cursor
    )
    return JSONResponse(answer.model_dump(mode="json"), headers=NO_STORE)


async def _lend(
    request: Request,
    shared: Parts,
    token: str,
    username: str | None,
    credential_type: str | None,
    project_id: str | None,
) -> Response:
    missing = {
        name: "This parameter is needed."
        for name, value in (
            ("username", username),
            ("credentialType", credential_type),
            ("projectId", project_id),
        )
        if value is None
    }
    if missing or username is None or credential_type is None or project_id is None:
        raise InvalidInput(missing)
    wanted = LoanRequest(
        token, username, credential_type, project_id, request.headers.get("x-request-id", "")[:64]
    )
    loan = await asyncio.wrap_future(shared.papita.lender.resolve(wanted))
    return JSONResponse(
        {
            "credentials": {
                "id": loan.credential_id,
                "credentialType": loan.credential_type,
                "projectId": loan.project_id,
                "baseUrl": loan.base_url,
                "credentials": loan.secret,
            },
            "lease": {"id": loan.lease_id, "expiresAt": loan.expires_at.isoformat()},
        },
        headers=NO_STORE,
    )


@router.post("", status_code=201, response_model=CredentialAnswer, summary="Store a credential")
def create(
    body: NewCredentialBody,
    caller: CallingActor,
    shared: CallingParts,
    response: Response,
    idempotency_key: Annotated[str | None, Header(alias="Idempotency-Key")] = None,
) -> CredentialAnswer:
    info = shared.papita.credentials.create(
        caller,
        NewCredential(
            body.credential_type,
            body.credentials.values(),
            body.label,
            body.project_id,
            body.base_url,
            body.expires_at,
        ),
        idempotency_key=idempotency_key,
    )
    response.headers.update(
        {"Location": f"/api/credentials/{info.id}", "ETag": info.etag, **NO_STORE}
    )
    return CredentialAnswer(credentials=CredentialView.of(info))


@router.get("/{credential_id}", response_model=CredentialAnswer, summary="One, without its secret")
def get(
    credential_id: str, caller: CallingActor, shared: CallingParts, response: Response
) -> CredentialAnswer:
    info = shared.papita.credentials.get(caller, credential_id)
    response.headers.update({"ETag": info.etag, **NO_STORE})
    return CredentialAnswer(credentials=CredentialView.of(info))


@router.put(
    "/{credential_id}", response_model=CredentialAnswer, responses=STALE, summary="Replace it"
)
def replace(
    credential_id: str,
    body: ReplaceCredentialBody,
    caller: CallingActor,
    shared: CallingParts,
    response: Response,
    if_match: IfMatch = None,
) -> CredentialAnswer:
    """Leaving `credentials` out keeps the secret; a new `baseUrl` needs the secret again."""
    if if_match is None:
        raise PreconditionRequired
    info = shared.papita.credentials.replace(
        caller,
        credential_id,
        ReplaceCredential(
            body.label,
            body.project_id,
            body.base_url,
            body.expires_at,
            None if body.credentials is None else body.credentials.values(),
        ),
        etag=if_match,
    )
    response.headers.update({"ETag": info.etag, **NO_STORE})
    return CredentialAnswer(credentials=CredentialView.of(info))


@router.delete("/{credential_id}", status_code=204, responses=STALE, summary="Delete it")
def delete(
    credential_id: str, caller: CallingActor, shared: CallingParts, if_match: IfMatch = None
) -> None:
    if if_match is None:
        raise PreconditionRequired
    shared.papita.credentials.delete(caller, credential_id, etag=if_match)


@router.post(
    "/{credential_id}/test", response_model=TestAnswer, summary="Ask the provider about the key"
)
def test(credential_id: str, caller: CallingActor, shared: CallingParts) -> TestAnswer:
    result = shared.papita.credentials.test(caller, credential_id)
    return TestAnswer.model_validate(result)
