"""Conversations from files."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.problems import problem
from alchat_core.api.routes.conversations import given
from alchat_core.api.schemas import Parameters
from alchat_core.api.transfer_schemas import ImportProblem, ImportReport
from alchat_core.errors import NothingImported

PATH = "/api/imports"
TYPES = ("application/json", "application/zip", "application/x-zip-compressed")

router = APIRouter(prefix="/api", tags=["imports"])

_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}],
                "description": "A conversation as AL-Chat exports it, or conversations of ChatGPT.",
            }
        },
        "application/zip": {"schema": {"type": "string", "format": "binary"}},
    },
}


@router.post(
    "/imports",
    response_model=ImportReport,
    responses={422: {"model": ImportProblem, "description": "A problem, with the report."}},
    openapi_extra={"requestBody": _BODY},
    summary="Import conversations of AL-Chat or ChatGPT",
)
async def import_conversations(request: Request, user: UserOf, services: ServicesOf) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in TYPES:
        raise HTTPException(415)
    try:
        report = await services.imports.take(user.id, request.stream())
    except NothingImported as error:
        return problem(error.status, error.code, str(error), report=error.report)
    return json(report.as_json())


def known_parameters(found: dict[str, Any]) -> dict[str, Any] | None:
    """Parameters of a file as AL-Chat keeps them; None if one is wrong or unknown."""
    try:
        return given(Parameters.model_validate(found))
    except ValidationError:
        return None
