"""Conversations as files to take away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from alchat_core.api.deps import ServicesOf, UserOf
from alchat_core.exports.archive import MEDIA_TYPES
from alchat_core.exports.names import attachment

router = APIRouter(prefix="/api", tags=["exports"])

Format = Annotated[
    Literal["markdown", "json"],
    Query(description="markdown: the active branch, to be read. json: all, to be imported again."),
]
_FILE: dict[str, dict[str, str]] = {"text/markdown": {}, "application/json": {}}


def _headers(name: str) -> dict[str, str]:
    return {
        "Cache-Control": "no-store",
        "Content-Disposition": attachment(name),
        "X-Content-Type-Options": "nosniff",
    }


@router.get(
    "/conversations/{conversation_id}/export",
    response_class=Response,
    responses={200: {"content": _FILE, "description": "A file."}},
    summary="One conversation as a file",
)
async def export_conversation(
    conversation_id: str,
    user: UserOf,
    services: ServicesOf,
    format: Format = "markdown",  # noqa: A002 - the name on the wire
) -> Response:
    name, content = await services.exports.one(user.id, conversation_id, format)
    return Response(content, headers=_headers(name), media_type=MEDIA_TYPES[format])


@router.get(
    "/export",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "A ZIP archive."}},
    summary="All conversations as one ZIP",
)
async def export_all(
    user: UserOf,
    services: ServicesOf,
    format: Format = "json",  # noqa: A002 - the name on the wire
) -> Response:
    name = f"al-chat-{datetime.now(UTC):%Y-%m-%d}.zip"
    pieces = services.exports.all(user.id, format)
    return StreamingResponse(pieces, headers=_headers(name), media_type="application/zip")
