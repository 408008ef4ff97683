"""Conversations and their messages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from alchat_core.api.deps import Services, ServicesOf, UserOf, json
from alchat_core.api.schemas import (
    ChangeConversation,
    Comparison,
    ConversationDetail,
    ConversationPage,
    MessagePage,
    NewAnswer,
    NewConversation,
    NewCopy,
    NewMessage,
    Parameters,
    SentBody,
)
from alchat_core.conversations.models import Conversation
from alchat_core.errors import InvalidInput
from alchat_core.runs.service import Sent

router = APIRouter(prefix="/api", tags=["conversations"])

CAN_BE_NULL = frozenset({"folder", "system_prompt", "parameters"})
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


@router.post("/conversations", response_model=ConversationDetail, status_code=201, summary="Create")
async def create_conversation(
    user: UserOf, services: ServicesOf, body: NewConversation | None = None
) -> Response:
    wanted = body or NewConversation.model_validate({})
    check_prompt(services, "systemPrompt", wanted.system_prompt)
    check_servers(services, wanted.tools)
    made = await services.conversations.create(
        user.id,
        title=wanted.title,
        temporary=wanted.temporary,
        assistant_id=wanted.assistant_id,
        system_prompt=wanted.system_prompt,
        parameters=given(wanted.parameters),
        tools=wanted.tools,
    )
    services.runs.expect(user.id, made.id)
    return json(detail(services, made), 201, {"Location": f"/api/conversations/{made.id}"})


@router.get("/conversations/{conversation_id}", response_model=ConversationDetail, summary="Read")
async def get_conversation(conversation_id: str, user: UserOf, services: ServicesOf) -> Response:
    return json(detail(services, await services.conversations.get(user.id, conversation_id)))


@router.patch(
    "/conversations/{conversation_id}",
    response_model=ConversationDetail,
    summary="Rename, pin, archive, sort, choose a branch",
)
async def update_conversation(
    conversation_id: str, body: ChangeConversation, user: UserOf, services: ServicesOf
) -> Response:
    changes = body.model_dump(exclude_unset=True)
    if any(value is None for name, value in changes.items() if name not in CAN_BE_NULL):
        raise InvalidInput(
            "Leave a field out to keep it as it is; only folder, systemPrompt and parameters can"
            " be null."
        )
    check_prompt(services, "systemPrompt", body.system_prompt)
    check_servers(services, body.tools or [])
    if "parameters" in changes:
        changes["parameters"] = given(body.parameters)
    if not changes:
        return json(detail(services, await services.conversations.get(user.id, conversation_id)))
    changed = await services.conversations.change(user.id, conversation_id, changes)
    return json(detail(services, changed))


@router.delete("/conversations/{conversation_id}", status_code=204, summary="Delete, with undo")
async def delete_conversation(conversation_id: str, user: UserOf, services: ServicesOf) -> Response:
    await services.runs.delete_conversation(user.id, conversation_id)
    return Response(status_code=204)


@router.post(
    "/conversations/{conversation_id}/restore",
    response_model=ConversationDetail,
    summary="Take a deletion back",
)
async def restore_conversation(
    conversation_id: str, user: UserOf, services: ServicesOf
) -> Response:
    return json(detail(services, await services.conversations.restore(user.id, conversation_id)))


@router.post(
    "/conversations/{conversation_id}/copy",
    response_model=ConversationDetail,
    status_code=201,
    summary="Copy a branch into a new conversation",
)
async def copy_conversation(
    conversation_id: str, user: UserOf, services: ServicesOf, body: NewCopy | None = None
) -> Response:
    wanted = body or NewCopy.model_validate({})
    made = await services.copies.copy(
        user.id, conversation_id, message_id=wanted.message_id, title=wanted.title
    )
    found = await services.conversations.get(user.id, made)
    return json(detail(services, found), 201, {"Location": f"/api/conversations/{made}"})


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
    most = services.settings.alchat_attachments_per_message
    if len(body.attachments) > most:
        raise InvalidInput(f"attachments: a message may have at most {most} files.")
    sent = await services.runs.send(
        user,
        conversation_id,
        body.content,
        model=body.model,
        parent_id=body.parent_id,
        parameters=given(body.parameters),
        attachments=body.attachments,
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
    body: NewAnswer | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    sent = await services.runs.retry(
        user,
        message_id,
        model=body.model if body else None,
        parameters=given(body.parameters) if body else None,
        beside=bool(body and body.beside),
        key=idempotency_key,
    )
    return accepted(sent)


@router.get(
    "/messages/{message_id}/comparison",
    response_model=Comparison,
    summary="Answers that are compared",
)
async def get_comparison(message_id: str, user: UserOf, services: ServicesOf) -> Response:
    found = await services.conversations.comparison(user.id, message_id)
    return json({"items": [one.as_json() for one in found]})


def detail(services: Services, conversation: Conversation) -> dict[str, Any]:
    pending = services.runs.titles.pending(conversation.id)
    return {**conversation.as_detail(), "titlePending": pending}


def check_prompt(services: Services, field: str, prompt: str | None) -> None:
    """Raises `InvalidInput` for one that is too long."""
    longest = services.settings.alchat_max_prompt_chars
    if prompt is not None and len(prompt) > longest:
        raise InvalidInput(f"{field}: it may have at most {longest} characters.")


def check_servers(services: Services, ids: list[str]) -> None:
    """Raises `InvalidInput` for too many."""
    most = services.settings.alchat_tools_per_conversation
    if len(ids) > most:
        raise InvalidInput(f"tools: a conversation may use at most {most} tool servers.")


def given(parameters: Parameters | None) -> dict[str, Any] | None:
    """Those that were given, under their names on the wire."""
    if parameters is None:
        return None
    return parameters.model_dump(by_alias=True, exclude_none=True) or None


def accepted(sent: Sent) -> Response:
    return json(
        {
            "messageId": sent.message_id,
            "runId": sent.run_id,
            "userMessageId": sent.user_message_id,
        },
        202,
        {"Location": f"/api/runs/{sent.run_id}"},
    )
