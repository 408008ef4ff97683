"""`/api/credentials`: keeping credentials, and lending one."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from papita_core.actors import Actor
from papita_core.api.deps import CallingActor, CallingParts, Parts, actor, bearer
from papita_core.api.lending import MAX_PARAMETER, NO_STORE, lend, request_id
from papita_core.api.schemas import (
    CredentialAnswer,
    CredentialList,
    CredentialView,
    LoanAnswer,
    NewCredentialBody,
    Problem,
    ReplaceCredentialBody,
    SharesAnswer,
    SharesBody,
    TestAnswer,
)
from papita_core.errors import InvalidInput, PreconditionRequired, Unauthenticated
from papita_core.grants.lending import LoanRequest
from papita_core.grants.service import LEASE_PREFIX
from papita_core.vault.records import NewCredential, ReplaceCredential

Responses: TypeAlias = dict[int | str, dict[str, Any]]
WORDS = {
    401: "No valid caller.",
    403: "The caller may not do this.",
    404: "Not there, or not yours.",
    409: "It does not fit the present state; see `code`.",
    412: "It was changed meanwhile.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "Some fields need another value.",
    428: "If-Match is missing.",
    429: "Too many requests; see Retry-After.",
    500: "The secret cannot be read.",
    503: "The vault is sealed.",
}


def problems_for(*statuses: int) -> Responses:
    """The descriptions of these errors, each with its status."""
    return {status: {"model": Problem, "description": WORDS[status]} for status in statuses}


PROBLEMS = problems_for(401, 403, 404, 422, 429, 503)
CHANGE = problems_for(401, 403, 404, 412, 413, 422, 428, 503)
Parameter: TypeAlias = Annotated[str | None, Query(max_length=MAX_PARAMETER)]

ETAG = {
    "ETag": {
        "description": "Names this state; send it as If-Match with a change.",
        "schema": {"type": "string"},
    }
}
# What a caller can do with a credential that was just stored, as OpenAPI's links.
THIS = {"credential_id": "$response.body#/credentials/id"}
THIS_STATE = {**THIS, "If-Match": "$response.header.ETag"}
CREATED: Responses = {
    201: {
        "description": "Stored.",
        "headers": {
            **ETAG,
            "Location": {"description": "Where it is.", "schema": {"type": "string"}},
        },
        "links": {
            "GetCredential": {"operationId": "getCredential", "parameters": THIS},
            "ReplaceCredential": {"operationId": "replaceCredential", "parameters": THIS_STATE},
            "DeleteCredential": {"operationId": "deleteCredential", "parameters": THIS_STATE},
            "TestCredential": {"operationId": "testCredential", "parameters": THIS},
            "DisableCredential": {"operationId": "disableCredential", "parameters": THIS_STATE},
        },
    }
}
FOUND: Responses = {200: {"headers": ETAG}}

router = APIRouter(prefix="/credentials", tags=["credentials"])
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=100, description="The ETag that you read; * takes any."),
]


@router.get(
    "",
    response_model=CredentialList | LoanAnswer,
    responses=problems_for(401, 403, 404, 409, 422, 429, 500, 503),
    operation_id="listOrLendCredentials",
    summary="List the caller's credentials, or lend one to a project",
)
async def list_or_lend(
    request: Request,
    shared: CallingParts,
    username: Parameter = None,
    credential_type: Annotated[Parameter, Query(alias="credentialType")] = None,
    project_id: Annotated[Parameter, Query(alias="projectId")] = None,
    run_id: Annotated[Parameter, Query(alias="runId")] = None,
    base_url: Annotated[
        str | None,
        Query(alias="baseUrl", max_length=2048, description="Of the credential that is lent."),
    ] = None,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """Without parameters: metadata of the caller's credentials, a page at a time.

    With a project token and `username`, `credentialType` and `projectId`: lends that one
    credential for the lease. The loan is in the audit log before it is answered, with the name of
    the project's run where `runId` gives one. With `baseUrl`, it is one for exactly this address.
    """
    token = bearer(request)
    if token is not None and token.startswith(LEASE_PREFIX):
        given = {"username": username, "credentialType": credential_type, "projectId": project_id}
        if username is None or credential_type is None or project_id is None:
            raise InvalidInput(
                {
                    name: "This parameter is needed."
                    for name, value in given.items()
                    if value is None
                }
            )
        wanted = LoanRequest(
            token, username, credential_type, project_id, request_id(request), run_id, base_url
        )
        return await lend(shared, wanted)
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


@router.post(
    "",
    status_code=201,
    response_model=CredentialAnswer,
    responses={**CREATED, **problems_for(401, 403, 404, 409, 413, 415, 422, 503)},
    operation_id="createCredential",
    summary="Store a credential",
)
def create(
    body: NewCredentialBody,
    caller: CallingActor,
    shared: CallingParts,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            max_length=255,
            description="A word of your own: the same request with the same one is served once.",
        ),
    ] = None,
) -> CredentialAnswer:
    """With `Idempotency-Key`, a repetition within 24 hours gets the first answer again: 409 while
    the first one is still being served, 422 where the body is another one.
    """
    info = shared.papita.credentials.create(
        caller,
        NewCredential(
            body.credential_type,
            body.credentials.values(),
            body.label,
            body.project_id,
            body.base_url,
            body.expires_at,
            None if body.budget is None else body.budget.value(),
        ),
        idempotency_key=idempotency_key,
    )
    response.headers.update(
        {"Location": f"/api/credentials/{info.id}", "ETag": info.etag, **NO_STORE}
    )
    return CredentialAnswer(credentials=CredentialView.of(info))


@router.get(
    "/{credential_id}",
    response_model=CredentialAnswer,
    responses={**FOUND, **problems_for(401, 403, 404, 422)},
    operation_id="getCredential",
    summary="One, without its secret",
)
def get(
    credential_id: str, caller: CallingActor, shared: CallingParts, response: Response
) -> CredentialAnswer:
    info = shared.papita.credentials.get(caller, credential_id)
    response.headers.update({"ETag": info.etag, **NO_STORE})
    return CredentialAnswer(credentials=CredentialView.of(info))


@router.put(
    "/{credential_id}",
    response_model=CredentialAnswer,
    responses={**FOUND, **CHANGE, **problems_for(409, 415, 500)},
    operation_id="replaceCredential",
    summary="Replace it",
)
def replace(
    credential_id: str,
    body: ReplaceCredentialBody,
    caller: CallingActor,
    shared: CallingParts,
    response: Response,
    if_match: IfMatch = None,
    test_first: Annotated[bool, Query(alias="testFirst")] = False,
) -> CredentialAnswer:
    """Leaving `credentials` out keeps the secret, leaving `budget` out the budget; a new `baseUrl`
    needs the secret again.

    With `testFirst`, the provider is asked before anything is written; 409 `test-failed` with the
    result where the key did not pass, and the old one stays.
    """
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
            body.wanted_budget(),
        ),
        etag=if_match,
        test_first=test_first,
    )
    response.headers.update({"ETag": info.etag, **NO_STORE})
    return CredentialAnswer(credentials=CredentialView.of(info))


@router.delete(
    "/{credential_id}",
    status_code=204,
    responses=CHANGE,
    operation_id="deleteCredential",
    summary="Delete it",
)
def delete(
    credential_id: str, caller: CallingActor, shared: CallingParts, if_match: IfMatch = None
) -> None:
    if if_match is None:
        raise PreconditionRequired
    shared.papita.credentials.delete(caller, credential_id, etag=if_match)


@router.post(
    "/{credential_id}/test",
    response_model=TestAnswer,
    responses=problems_for(401, 403, 404, 413, 422, 500, 503),
    operation_id="testCredential",
    summary="Ask the provider about the key",
)
def test(credential_id: str, caller: CallingActor, shared: CallingParts) -> TestAnswer:
    result = shared.papita.credentials.test(caller, credential_id)
    return TestAnswer.model_validate(result)


@router.post(
    "/{credential_id}/disable",
    response_model=CredentialAnswer,
    responses={**FOUND, **CHANGE},
    operation_id="disableCredential",
    summary="Switch it off",
)
def disable(
    credential_id: str,
    caller: CallingActor,
    shared: CallingParts,
    response: Response,
    if_match: IfMatch = None,
) -> CredentialAnswer:
    """No project gets it until it is switched on again."""
    return _switched(credential_id, caller, shared, response, if_match, disabled=True)


@router.post(
    "/{credential_id}/enable",
    response_model=CredentialAnswer,
    responses={**FOUND, **CHANGE},
    operation_id="enableCredential",
    summary="Switch it on",
)
def enable(
    credential_id: str,
    caller: CallingActor,
    shared: CallingParts,
    response: Response,
    if_match: IfMatch = None,
) -> CredentialAnswer:
    return _switched(credential_id, caller, shared, response, if_match, disabled=False)


def _switched(
    credential_id: str,
    caller: Actor,
    shared: Parts,
    response: Response,
    if_match: str | None,
    *,
    disabled: bool,
) -> CredentialAnswer:
    if if_match is None:
        raise PreconditionRequired
    info = shared.papita.credentials.set_disabled(caller, credential_id, disabled, etag=if_match)
    response.headers.update({"ETag": info.etag, **NO_STORE})
    return CredentialAnswer(credentials=CredentialView.of(info))


@router.get(
    "/{credential_id}/shares",
    response_model=SharesAnswer,
    responses={**FOUND, **problems_for(401, 403, 404, 422)},
    operation_id="getCredentialShares",
    summary="Who may use it",
)
def shares(
    credential_id: str, caller: CallingActor, shared: CallingParts, response: Response
) -> SharesAnswer:
    """For administrators and their own credentials. The ETag is the credential's."""
    found = shared.papita.credentials.shares(caller, credential_id)
    etag = shared.papita.credentials.get(caller, credential_id).etag
    response.headers.update({"ETag": etag, **NO_STORE})
    return SharesAnswer(everybody=found.everybody, usernames=list(found.usernames))


@router.put(
    "/{credential_id}/shares",
    response_model=CredentialAnswer,
    responses={**FOUND, **CHANGE, **problems_for(415)},
    operation_id="shareCredential",
    summary="Say who may use it",
)
def share(
    credential_id: str,
    body: SharesBody,
    caller: CallingActor,
    shared: CallingParts,
    response: Response,
    if_match: IfMatch = None,
) -> CredentialAnswer:
    """Replaces the whole list. Others use it through projects and never see it."""
    if if_match is None:
        raise PreconditionRequired
    info = shared.papita.credentials.share(
        caller,
        credential_id,
        everybody=body.everybody,
        usernames=body.usernames,
        etag=if_match,
    )
    response.headers.update({"ETag": info.etag, **NO_STORE})
    return CredentialAnswer(credentials=CredentialView.of(info))
