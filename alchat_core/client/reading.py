"""From what the service sends to the values of the client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alchat_core.client.values import (
    Assistant,
    AssistantFile,
    Attachment,
    Conversation,
    Event,
    Feedback,
    Hit,
    Message,
    MessageRun,
    Run,
    RunFailure,
    Shelf,
    Siblings,
    SnippetPart,
    Source,
    ToolCall,
)


def event_of(frame: bytes) -> Event | None:
    number, kind, data = 0, "", b""
    for line in frame.split(b"\n"):
        if line.startswith(b"data: "):
            data = line[6:]
        elif line.startswith(b"event: "):
            kind = line[7:].decode()
        elif line.startswith(b"id: "):
            number = int(line[4:])
    return Event(number, kind, json.loads(data)) if kind else None


def object_of(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _time(value: str) -> datetime:
    return datetime.fromisoformat(value)


def conversation_of(item: Mapping[str, Any]) -> Conversation:
    return Conversation(
        id=item["id"],
        title=item["title"],
        model=item.get("model"),
        pinned=item["pinned"],
        archived=item["archived"],
        created_at=_time(item["createdAt"]),
        updated_at=_time(item["updatedAt"]),
        last_message_at=_time(item["lastMessageAt"]),
        active_run_id=item["activeRunId"],
        active_message_id=item.get("activeMessageId"),
        temporary=item.get("temporary", False),
        folder=item.get("folder"),
        tags=tuple(item.get("tags", ())),
        assistant_id=item.get("assistantId"),
        system_prompt=item.get("systemPrompt"),
        parameters=item.get("parameters"),
        title_pending=item.get("titlePending", False),
        tools=tuple(item.get("tools", ())),
        unread=item.get("unread", False),
    )


def shelf_of(item: Mapping[str, Any]) -> Shelf:
    return Shelf(item["name"], item["conversations"])


def assistant_of(item: Mapping[str, Any]) -> Assistant:
    return Assistant(
        id=item["id"],
        kind=item["kind"],
        name=item["name"],
        prompt=item["prompt"],
        model=item["model"],
        parameters=item["parameters"],
        shared=item["shared"],
        own=item["own"],
        owner=item["owner"],
        created_at=_time(item["createdAt"]),
        updated_at=_time(item["updatedAt"]),
        files=tuple(
            AssistantFile(one["id"], one["name"], one["mediaType"], one["bytes"], one["pages"])
            for one in item.get("files", ())
        ),
        tools=tuple(item.get("tools", ())),
    )


def hit_of(item: Mapping[str, Any]) -> Hit:
    return Hit(
        conversation_id=item["conversationId"],
        message_id=item["messageId"],
        title=item["title"],
        role=item["role"],
        created_at=_time(item["createdAt"]),
        snippet=tuple(SnippetPart(part["text"], part["hit"]) for part in item["snippet"]),
    )


def feedback_of(item: Mapping[str, Any]) -> Feedback:
    return Feedback(item["rating"], item["comment"], _time(item["updatedAt"]))


def _siblings(item: Mapping[str, Any] | None) -> Siblings | None:
    if item is None:
        return None
    return Siblings(item["count"], item["index"], tuple(item["ids"]))


def _failure(item: Mapping[str, Any] | None) -> RunFailure | None:
    if item is None:
        return None
    return RunFailure(item["code"], item["message"], item["retryable"], item.get("retryAfter"))


def attachment_of(item: Mapping[str, Any]) -> Attachment:
    return Attachment(
        id=item["id"],
        name=item["name"],
        media_type=item["mediaType"],
        bytes=item["bytes"],
        pages=item["pages"],
        status=item["status"],
        created_at=_time(item["createdAt"]),
    )


def _source(item: Mapping[str, Any]) -> Source:
    return Source(item["n"], item["attachmentId"], item["name"], item["page"], item["excerpt"])


def message_of(item: Mapping[str, Any]) -> Message:
    run = item["run"]
    return Message(
        id=item["id"],
        conversation_id=item["conversationId"],
        parent_id=item["parentId"],
        role=item["role"],
        content=item["content"],
        model=item["model"],
        created_at=_time(item["createdAt"]),
        run=MessageRun(run["id"], run["state"]) if run else None,
        error=_failure(item["error"]),
        usage=item["usage"],
        reasoning=item.get("reasoning"),
        reasoning_seconds=item.get("reasoningSeconds"),
        credential_id=item.get("credentialId"),
        siblings=_siblings(item.get("siblings")),
        feedback=feedback_of(rated) if (rated := item.get("feedback")) else None,
        attachments=tuple(attachment_of(one) for one in item.get("attachments", ())),
        sources=tuple(_source(one) for one in item.get("sources", ())),
        tool_calls=tuple(_tool_call(one) for one in item.get("toolCalls", ())),
        compared_with=tuple(item.get("comparedWith", ())),
    )


def _tool_call(item: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        id=item["id"],
        at=item["at"],
        server_id=item["serverId"],
        server=item["server"],
        tool=item["tool"],
        arguments=item["arguments"],
        content=item["content"],
        truncated=item["truncated"],
        is_error=item["isError"],
        seconds=item["seconds"],
    )


def run_of(item: Mapping[str, Any]) -> Run:
    finished = item["finishedAt"]
    return Run(
        id=item["id"],
        conversation_id=item["conversationId"],
        message_id=item["messageId"],
        user_message_id=item["userMessageId"],
        state=item["state"],
        model=item["model"],
        created_at=_time(item["createdAt"]),
        finished_at=_time(finished) if finished else None,
        last_event=item["lastEvent"],
        error=_failure(item["error"]),
        credential_id=item.get("credentialId"),
        credential_type=item.get("credentialType"),
        parameters=item.get("parameters"),
    )
