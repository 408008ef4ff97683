"""Answers that were broken off: going on with them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf
from alchat_core.api.routes.conversations import IdempotencyKey, accepted, given
from alchat_core.api.schemas import NewRun, SentBody

router = APIRouter(prefix="/api", tags=["runs"])


@router.post(
    "/messages/{message_id}/continue",
    response_model=SentBody,
    status_code=202,
    summary="Go on with an answer that was broken off",
)
async def continue_message(
    message_id: str,
    user: UserOf,
    services: ServicesOf,
    body: NewRun | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    sent = await services.runs.go_on(
        user,
        message_id,
        model=body.model if body else None,
        parameters=given(body.parameters) if body else None,
        key=idempotency_key,
    )
    return accepted(sent)
