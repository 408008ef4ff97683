"""Prompts and assistants, one's own and those that others share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.routes.conversations import NO_NULL, check_prompt, check_servers, given
from alchat_core.api.schemas import AssistantBody, AssistantPage, ChangeAssistant, NewAssistant
from alchat_core.errors import InvalidInput

router = APIRouter(prefix="/api/assistants", tags=["assistants"])

CAN_BE_NULL = frozenset({"model", "parameters"})


@router.get("", response_model=AssistantPage, summary="List your own and the shared ones")
async def list_assistants(
    user: UserOf,
    services: ServicesOf,
    kind: Annotated[Literal["prompt", "assistant"] | None, Query()] = None,
    cursor: Annotated[str | None, Query(max_length=40, pattern=NO_NULL)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    page = await services.assistants.list(user.id, kind=kind, cursor=cursor, limit=limit)
    return json(
        {
            "assistants": [one.as_json(user.id) for one in page.items],
            "nextCursor": page.next_cursor,
        }
    )


@router.post("", response_model=AssistantBody, status_code=201, summary="Create")
async def create_assistant(body: NewAssistant, user: UserOf, services: ServicesOf) -> Response:
    check_prompt(services, "prompt", body.prompt)
    check_servers(services, body.tools)
    values = body.model_dump(exclude={"files"}) | {"parameters": given(body.parameters)}
    made = await services.assistants.create(user.id, user.username, values, body.files)
    return json(made.as_json(user.id), 201, {"Location": f"/api/assistants/{made.id}"})


@router.get("/{assistant_id}", response_model=AssistantBody, summary="Read")
async def get_assistant(assistant_id: str, user: UserOf, services: ServicesOf) -> Response:
    return json((await services.assistants.get(user.id, assistant_id)).as_json(user.id))


@router.patch("/{assistant_id}", response_model=AssistantBody, summary="Change or share")
async def update_assistant(
    assistant_id: str, body: ChangeAssistant, user: UserOf, services: ServicesOf
) -> Response:
    changes: dict[str, Any] = body.model_dump(exclude_unset=True)
    files: list[str] | None = changes.get("files")
    if any(value is None for name, value in changes.items() if name not in CAN_BE_NULL):
        raise InvalidInput(
            "Leave a field out to keep it as it is; only model and parameters can be null."
        )
    check_prompt(services, "prompt", body.prompt)
    check_servers(services, body.tools or [])
    if "parameters" in changes:
        changes["parameters"] = given(body.parameters)
    changes.pop("files", None)
    changed = await services.assistants.change(user.id, user.username, assistant_id, changes, files)
    if files is not None:
        await services.attachments.drop_unused(user.id)
    return json(changed.as_json(user.id))


@router.delete("/{assistant_id}", status_code=204, summary="Delete")
async def delete_assistant(assistant_id: str, user: UserOf, services: ServicesOf) -> Response:
    await services.assistants.delete(user.id, assistant_id)
    await services.attachments.drop_unused(user.id)
    return Response(status_code=204)
