"""Runs: their state, their events, and the end of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.schemas import EventBody, RunBody
from alchat_core.api.sse import EventStream
from alchat_core.api.tool_schemas import DecisionBody
from alchat_core.errors import InvalidInput

router = APIRouter(prefix="/api/runs", tags=["runs"])


@router.get("/{run_id}", response_model=RunBody, summary="State")
async def get_run(run_id: str, user: UserOf, services: ServicesOf) -> Response:
    return json((await services.runs.get(user.id, run_id)).as_json())


@router.get(
    "/{run_id}/events",
    summary="Follow: server-sent events, resumable",
    response_class=Response,
    responses={
        200: {
            "content": {"text/event-stream": {"itemSchema": EventBody.model_json_schema()}},
            "description": "`run.started`, `reasoning.delta` {text}, `text.delta` {text}, among"
            " them `run.retrying` {attempt, code, waitSeconds}, `run.trimmed` {messagesLeftOut},"
            " `run.sources` {sources},"
            " `tool.call` {id, serverId, server, tool, arguments, approval}, `tool.decision`"
            " {id, decision}, `tool.result` {id, content, truncated, isError, seconds},"
            " `tool.unavailable` {serverId, server, message}"
            " and `run.seam` {keptCharacters, code}, then one of `run.completed`"
            " {usage}, `run.failed` {code, message, retryable, retryAfter}, `run.cancelled`,"
            " `run.interrupted`, which ends the stream. Each has a number as its `id`.",
        },
        204: {"description": "The run has ended and there is nothing after that number."},
    },
)
async def follow_run(
    run_id: str,
    user: UserOf,
    services: ServicesOf,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)] = None,
) -> Response:
    if last_event_id:
        if not (last_event_id.isascii() and last_event_id.isdigit()):
            raise InvalidInput("Last-Event-ID: send the number of the last event you saw.")
        after = min(int(last_event_id), 2**31 - 1)
    last = await services.runs.owned(user.id, run_id)
    if last is not None and after >= last:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    return EventStream(services.events, run_id, after)


@router.post("/{run_id}/cancel", response_model=RunBody, summary="Stop")
async def cancel_run(run_id: str, user: UserOf, services: ServicesOf) -> Response:
    return json((await services.runs.cancel(user.id, run_id)).as_json())


@router.post("/{run_id}/read", status_code=204, summary="Say that you have read the answer")
async def read_answer(run_id: str, user: UserOf, services: ServicesOf) -> Response:
    await services.conversations.read_answer(user.id, run_id)
    return Response(status_code=204)


@router.post(
    "/{run_id}/tool-calls/{call_id}",
    status_code=204,
    summary="Decide whether a tool may be called",
)
async def decide_tool_call(
    run_id: str, call_id: str, body: DecisionBody, user: UserOf, services: ServicesOf
) -> Response:
    await services.runs.decide(user, run_id, call_id, body.decision)
    return Response(status_code=204)
