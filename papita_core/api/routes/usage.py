"""`/api/usage`: projects report what they spent, and users see it."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from papita_core.api.deps import CallingActor, CallingParts, CallingProject
from papita_core.api.routes.credentials import problems_for
from papita_core.api.schemas import UsageAnswer, UsageBody, UsageLine, UsageReported
from papita_core.usage.budgets import nano, usd
from papita_core.usage.service import Record

router = APIRouter(prefix="/usage", tags=["usage"])


def _written_out(value: object) -> object:
    # A number would pass for seconds since 1970.
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("write a day like 2030-01-31")
    return value


Day = Annotated[date, BeforeValidator(_written_out)]


@router.post(
    "",
    response_model=UsageReported,
    responses=problems_for(401, 413, 415, 422),
    operation_id="reportUsage",
    summary="What a project spent with what it borrowed",
)
def report(project_id: CallingProject, body: UsageBody, shared: CallingParts) -> UsageReported:
    """Client authentication by HTTP Basic. A record counts once, however often it is sent, and
    only where the credential was lent to this project on that lease within the last week.
    """
    found = shared.papita.usage.report(
        project_id,
        [
            Record(
                item.id,
                item.lease_id,
                item.credential_id,
                item.model,
                item.prompt_tokens,
                item.completion_tokens,
                None if item.cost_usd is None else nano(item.cost_usd),
                item.at,
            )
            for item in body.records
        ],
    )
    return UsageReported(
        counted=found.counted, repeated=found.repeated, unknown=list(found.unknown)
    )


@router.get(
    "",
    response_model=UsageAnswer,
    responses=problems_for(401, 403, 422),
    operation_id="listUsage",
    summary="What the caller's projects spent",
)
def usage(
    caller: CallingActor,
    shared: CallingParts,
    group: Annotated[Literal["day", "credential", "project", "model"], Query()] = "day",
    since: Annotated[
        Day | None, Query(description="The first day, UTC. Left out: the last 30 days.")
    ] = None,
    until: Annotated[Day | None, Query(description="The last day. Left out: today.")] = None,
) -> UsageAnswer:
    """Of the caller's own answers, also with credentials that others share. At most 366 days."""
    lines = shared.papita.usage.of(caller, group, since=since, until=until)
    return UsageAnswer(
        group=group,
        usage=[
            UsageLine(
                key=line.key,
                label=line.label,
                requests=line.requests,
                unpriced_requests=line.unpriced_requests,
                prompt_tokens=line.prompt_tokens,
                completion_tokens=line.completion_tokens,
                cost_usd=usd(line.cost_nano),
            )
            for line in lines
        ],
    )
