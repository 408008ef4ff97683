"""`/api/token` (RFC 8693) and the public keys of user tokens (RFC 7517)."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any
from urllib.parse import unquote_plus

from fastapi import APIRouter, Depends, Form, Request, Response

from papita_core.api.deps import CallingParts
from papita_core.api.routes.credentials import PROBLEMS
from papita_core.api.schemas import Problem, TokenAnswer
from papita_core.errors import ClientRefused, TokenRequestRefused
from papita_core.grants.service import SCOPE

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, no secret

router = APIRouter(tags=["tokens"])


async def client(request: Request, shared: CallingParts) -> str:
    """The project that is calling, by HTTP Basic. Raises `ClientRefused`."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() == "basic":
            client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
            try:
                return shared.papita.grants.client_project(client_id, secret)
            except ClientRefused:
                # RFC 6749, section 2.3.1, encodes both before joining them; many clients do not.
                return shared.papita.grants.client_project(
                    unquote_plus(client_id), unquote_plus(secret)
                )
    except (binascii.Error, UnicodeDecodeError):
        pass
    raise ClientRefused


@router.post(
    "/token",
    response_model=TokenAnswer,
    responses={400: {"model": Problem, "description": "RFC 6749 error."}, **PROBLEMS},
    summary="Exchange a user token for a project token",
)
def exchange(
    request: Request,
    response: Response,
    shared: CallingParts,
    project_id: Annotated[str, Depends(client)],  # before the form: no client, no answer
    grant_type: Annotated[str, Form(max_length=200)],
    subject_token: Annotated[str, Form(max_length=8192)],
    subject_token_type: Annotated[str, Form(max_length=200)],
    scope: Annotated[str, Form(max_length=200)],
    credential_type: Annotated[str, Form(max_length=64)],
) -> TokenAnswer:
    """Client authentication by HTTP Basic. The project token reads one type of credential of one
    user, for one project, for at most five minutes.
    """
    if grant_type != GRANT_TYPE:
        raise TokenRequestRefused("unsupported_grant_type", f"The grant_type is {GRANT_TYPE}.")
    if subject_token_type != TOKEN_TYPE:
        raise TokenRequestRefused("invalid_request", f"The subject_token_type is {TOKEN_TYPE}.")
    if scope != SCOPE:
        raise TokenRequestRefused("invalid_scope", f"The scope is {SCOPE}.")
    token = shared.papita.grants.exchange(
        project_id,
        subject_token,
        credential_type,
        request_id=request.headers.get("x-request-id", "")[:64] or None,
    )
    response.headers["Cache-Control"] = "no-store"
    return TokenAnswer(
        access_token=token.token,
        issued_token_type=TOKEN_TYPE,
        token_type="Bearer",  # noqa: S106 - a name, no secret
        expires_in=token.expires_in,
    )


@router.get("/.well-known/jwks.json", summary="Public keys of user tokens")
def jwks(shared: CallingParts, response: Response) -> dict[str, Any]:
    response.headers["Cache-Control"] = "public, max-age=300"
    return shared.papita.user_tokens.jwks()
