"""`/api/token` (RFC 8693) and the public keys of user tokens (RFC 7517)."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request, Response

from papita_core.api.deps import CallingParts, CallingProject
from papita_core.api.routes.credentials import problems_for
from papita_core.api.schemas import Problem, TokenAnswer
from papita_core.errors import TokenRequestRefused
from papita_core.grants.service import SCOPE

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, no secret
FORM = "application/x-www-form-urlencoded"
LENGTHS = {
    "grant_type": 200,
    "subject_token": 8192,
    "subject_token_type": 200,
    "scope": 200,
    "credential_type": 64,
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": list(LENGTHS),
                    "properties": {
                        "grant_type": {"type": "string", "enum": [GRANT_TYPE]},
                        "subject_token": {
                            "type": "string",
                            "minLength": 1,
                            "maxLength": LENGTHS["subject_token"],
                            "description": "The user token that the project was called with.",
                        },
                        "subject_token_type": {"type": "string", "enum": [TOKEN_TYPE]},
                        "scope": {"type": "string", "enum": [SCOPE]},
                        "credential_type": {
                            "type": "string",
                            "minLength": 1,
                            "maxLength": LENGTHS["credential_type"],
                            "examples": ["openai"],
                        },
                    },
                }
            }
        },
    }
}

router = APIRouter(tags=["tokens"])


async def form(request: Request, project_id: CallingProject) -> dict[str, str]:
    """The fields of a token request, each there once and not empty; unknown ones are left out.

    After the client, which has to prove itself before it is told anything. Raises
    `TokenRequestRefused`.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise _invalid(f"The body of a token request is {FORM}.")
    found: dict[str, str] = {}
    body = await request.body()
    # RFC 6749, section 3.2: an empty value is one left out, what is not known is ignored, and
    # nothing comes twice.
    for name, value in parse_qsl(body.decode("utf-8", "replace")):
        if name in LENGTHS and name in found:
            raise _invalid(f"{name} is there more than once.")
        if len(value) > LENGTHS.get(name, len(value)):
            raise _invalid(f"{name} is too long.")
        if name in LENGTHS:
            found[name] = value
    for name in LENGTHS:
        if name not in found:
            raise _invalid(f"{name} is missing.")
    return found


@router.post(
    "/token",
    response_model=TokenAnswer,
    responses={
        400: {"model": Problem, "description": "RFC 6749 error."},
        **problems_for(401, 403, 413, 503),
    },
    operation_id="exchangeToken",
    openapi_extra=BODY,
    summary="Exchange a user token for a project token",
)
def exchange(
    request: Request,
    response: Response,
    shared: CallingParts,
    project_id: CallingProject,
    fields: Annotated[dict[str, str], Depends(form)],
) -> TokenAnswer:
    """Client authentication by HTTP Basic. The project token reads one type of credential of one
    user, for one project, for at most five minutes.
    """
    if fields["grant_type"] != GRANT_TYPE:
        raise TokenRequestRefused("unsupported_grant_type", f"The grant_type is {GRANT_TYPE}.")
    if fields["subject_token_type"] != TOKEN_TYPE:
        raise _invalid(f"The subject_token_type is {TOKEN_TYPE}.")
    if fields["scope"] != SCOPE:
        raise TokenRequestRefused("invalid_scope", f"The scope is {SCOPE}.")
    token = shared.papita.grants.exchange(
        project_id,
        fields["subject_token"],
        fields["credential_type"],
        request_id=request.headers.get("x-request-id", "")[:64] or None,
    )
    response.headers["Cache-Control"] = "no-store"
    return TokenAnswer(
        access_token=token.token,
        issued_token_type=TOKEN_TYPE,
        token_type="Bearer",  # noqa: S106 - a name, no secret
        expires_in=token.expires_in,
    )


@router.get("/.well-known/jwks.json", operation_id="getKeys", summary="Public keys of user tokens")
def jwks(shared: CallingParts, response: Response) -> dict[str, Any]:
    response.headers["Cache-Control"] = "public, max-age=300"
    return shared.papita.user_tokens.jwks()


def _invalid(detail: str) -> TokenRequestRefused:
    return TokenRequestRefused("invalid_request", detail)
