"""Feedback on answers."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.schemas import FeedbackBody, NewFeedback

router = APIRouter(prefix="/api", tags=["conversations"])


@router.put(
    "/messages/{message_id}/feedback", response_model=FeedbackBody, summary="Rate an answer"
)
async def rate_message(
    message_id: str, body: NewFeedback, user: UserOf, services: ServicesOf
) -> Response:
    kept = await services.feedback.put(user.id, message_id, body.rating, body.comment)
    return json(kept.as_json())


@router.delete("/messages/{message_id}/feedback", status_code=204, summary="Take a rating back")
async def unrate_message(message_id: str, user: UserOf, services: ServicesOf) -> Response:
    await services.feedback.remove(user.id, message_id)
    return Response(status_code=204)
