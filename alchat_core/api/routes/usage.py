"""What the caller's answers cost."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BeforeValidator
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.schemas import UsageList

router = APIRouter(prefix="/api", tags=["usage"])


def _written_out(value: object) -> object:
    # A number would pass for seconds since 1970.
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("write a day like 2030-01-31")
    return value


Day = Annotated[date, BeforeValidator(_written_out)]


@router.get("/usage", response_model=UsageList, summary="Tokens and cost of your answers")
async def list_usage(
    user: UserOf,
    services: ServicesOf,
    group: Annotated[Literal["day", "model", "conversation", "credential"], Query()] = "day",
    since: Annotated[
        Day | None, Query(description="The first day, UTC. Left out: the last 30 days.")
    ] = None,
    until: Annotated[Day | None, Query(description="The last day. Left out: today.")] = None,
) -> Response:
    lines = await services.usage.of(user.id, group, since=since, until=until)
    return json({"group": group, "usage": [line.as_json() for line in lines]})
