"""Search over everything that one user has written and been answered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.routes.conversations import NO_NULL
from alchat_core.api.schemas import HitPage
from alchat_core.conversations.search import Filters

router = APIRouter(prefix="/api", tags=["conversations"])


@router.get("/search", response_model=HitPage, summary="Search titles and messages")
async def search(
    user: UserOf,
    services: ServicesOf,
    q: Annotated[
        str,
        Query(max_length=200, description="Words; all must be there, the last may be a beginning."),
    ],
    folder: Annotated[str | None, Query(max_length=100, pattern=NO_NULL)] = None,
    tag: Annotated[str | None, Query(max_length=50, pattern=NO_NULL)] = None,
    archived: Annotated[bool | None, Query(description="Left out: both.")] = None,
    role: Annotated[Literal["user", "assistant"] | None, Query()] = None,
    model: Annotated[str | None, Query(max_length=200, pattern=NO_NULL)] = None,
    since: Annotated[datetime | None, Query(description="RFC 3339; without a zone UTC.")] = None,
    until: Annotated[datetime | None, Query(description="Not any more at this moment.")] = None,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    filters = Filters(folder, tag, archived, role, model, _ms(since), _ms(until))
    page = await services.conversations.search(user.id, q, filters, cursor=cursor, limit=limit)
    return json({"hits": [hit.as_json() for hit in page.items], "nextCursor": page.next_cursor})


def _ms(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(zoned.timestamp() * 1000)
