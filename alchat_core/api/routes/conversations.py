"""Conversations and their messages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.schemas import (
    ChangeConversation,
    ConversationBody,
    ConversationPage,
    MessagePage,
    NewConversation,
    NewMessage,
    NewRun,
    Parameters,
    SentBody,
)
from alchat_core.errors import InvalidInput
from alchat_core.runs.service import Sent

router = APIRouter(prefix="/api", tags=["conversations"])

# PostgreSQL cannot even compare with one.
NO_NULL = r"^[^\x00]*$"

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key with the same request gives the same answer again.",
    ),
]


@router.get("/conversations", response_model=ConversationPage, summary="List or search")
async def list_conversations(
    user: UserOf,
    services: ServicesOf,
    search: Annotated[str | None, Query(max_length=200)] = None,
    archived: Annotated[bool, Query()] = False,
    folder: Annotated[str | None, Query(max_length=100, pattern=NO_NULL)] = None,
    tag: Annotated[str | None, Query(max_length=50, pattern=NO_NULL)] = None,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    page = await services.conversations.list(
        user.id,
        search=search,
        archived=archived,
        folder=folder,
        tag=tag,
        cursor=cursor,
        limit=limit,
    )
    return json(
        {
            "conversations": [one.as_json() for one in page.items],
            "nextCursor": page.next_cursor,
        }
    )


@router.post("/conversations", response_model=ConversationBody, status_code=201, summary="Create")
async def create_conversation(
    user: UserOf, services: ServicesOf, body: NewConversation | None = None
) -> Response:
    given = body or NewConversation(temporary=False)
    made = await services.conversations.create(
        user.id, title=given.title, temporary=given.temporary
    )
    return json(made.as_json(), 201, {"Location": f"/api/conversations/{made.id}"})


@router.get("/conversations/{conversation_id}", response_model=ConversationBody, summary="Read")
async def get_conversation(conversation_id: str, user: UserOf, services: ServicesOf) -> Response:
    return json((await services.conversations.get(user.id, conversation_id)).as_json())


@router.patch(
    "/conversations/{conversation_id}",
    response_model=ConversationBody,
    summary="Rename, pin, archive, sort, choose a branch",
)
async def update_conversation(
    conversation_id: str, body: ChangeConversation, user: UserOf, services: ServicesOf
) -> Response:
    changes = body.model_dump(exclude_unset=True)
    if any(value is None for name, value in changes.items() if name != "folder"):
        raise InvalidInput("Leave a field out to keep it as it is; only folder can be null.")
    if not changes:
        return json((await services.conversations.get(user.id, conversation_id)).as_json())
    changed = await services.conversations.change(user.id, conversation_id, changes)
    return json(changed.as_json())


@router.delete("/conversations/{conversation_id}", status_code=204, summary="Delete, with undo")
async def delete_conversation(conversation_id: str, user: UserOf, services: ServicesOf) -> Response:
    await services.runs.delete_conversation(user.id, conversation_id)
    return Response(status_code=204)


@router.post(
    "/conversations/{conversation_id}/restore",
    response_model=ConversationBody,
    summary="Take a deletion back",
)
async def restore_conversation(
    conversation_id: str, user: UserOf, services: ServicesOf
) -> Response:
    return json((await services.conversations.restore(user.id, conversation_id)).as_json())


@router.get(
    "/conversations/{conversation_id}/messages",
    response_model=MessagePage,
    summary="A page of the active branch, newest last",
)
async def list_messages(
    conversation_id: str,
    user: UserOf,
    services: ServicesOf,
    before: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    page = await services.conversations.messages(
        user.id, conversation_id, before=before, limit=limit
    )
    return json({"messages": [one.as_json() for one in page.items], "nextCursor": page.next_cursor})


@router.post(
    "/conversations/{conversation_id}/messages",
    response_model=SentBody,
    status_code=202,
    summary="Send a message and start the answer",
)
async def send_message(
    conversation_id: str,
    body: NewMessage,
    user: UserOf,
    services: ServicesOf,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    longest = services.settings.alchat_max_message_chars
    if len(body.content) > longest:
        raise InvalidInput(f"content: a message may have at most {longest} characters.")
    sent = await services.runs.send(
        user,
        conversation_id,
        body.content,
        model=body.model,
        parent_id=body.parent_id,
        parameters=given(body.parameters),
        first=body.parent_id is None and "parent_id" in body.model_fields_set,
        key=idempotency_key,
    )
    return accepted(sent)


@router.post(
    "/messages/{message_id}/runs",
    response_model=SentBody,
    status_code=202,
    summary="Answer a message of yours once more",
)
async def retry_message(
    message_id: str,
    user: UserOf,
    services: ServicesOf,
    body: NewRun | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    sent = await services.runs.retry(
        user,
        message_id,
        model=body.model if body else None,
        parameters=given(body.parameters) if body else None,
        key=idempotency_key,
    )
    return accepted(sent)


def given(parameters: Parameters | None) -> dict[str, Any] | None:
    """Those that were given, under their names on the wire."""
    if parameters is None:
        return None
    return parameters.model_dump(by_alias=True, exclude_none=True) or None


def accepted(sent: Sent) -> Response:
    return json(
        {"messageId": sent.message_id, "runId": sent.run_id},
        202,
        {"Location": f"/api/runs/{sent.run_id}"},
    )
