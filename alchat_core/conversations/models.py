"""Conversations, messages and runs as values without I/O, and their form on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from alchat_core.attachments.models import Attachment
from alchat_core.ids import iso

T = TypeVar("T")

UNTITLED = "New chat"
# Of what `alchat_core.tools.models` keeps of a call, what is shown.
_CALL = (
    *("id", "at", "serverId", "server", "tool", "arguments"),
    *("content", "truncated", "isError", "seconds"),
)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next_cursor` is None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    title: str | None
    model: str | None
    pinned: bool
    archived: bool
    created_at: int
    updated_at: int
    last_message_at: int
    active_run_id: str | None
    active_leaf_id: str | None = None
    temporary: bool = False
    folder: str | None = None
    assistant_id: str | None = None
    unread: bool = False
    tags: tuple[str, ...] = ()
    system_prompt: str | None = None
    parameters: dict[str, Any] | None = None
    tools: list[str] | None = None

    def as_json(self) -> dict[str, Any]:
        """As in a list, where the system prompt would be too long."""
        return {
            "id": self.id,
            "title": self.title or UNTITLED,
            "model": self.model,
            "pinned": self.pinned,
            "archived": self.archived,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
            "lastMessageAt": iso(self.last_message_at),
            "activeRunId": self.active_run_id,
            "activeMessageId": self.active_leaf_id,
            "temporary": self.temporary,
            "folder": self.folder,
            "tags": self.tags,
            "assistantId": self.assistant_id,
            "unread": self.unread,
        }

    def as_detail(self) -> dict[str, Any]:
        return {
            **self.as_json(),
            "systemPrompt": self.system_prompt,
            "parameters": self.parameters,
            "tools": self.tools or [],
        }


@dataclass(frozen=True, slots=True)
class Siblings:
    """Versions of one message, oldest first, and itself among them: `index` counts from 0.

    `ids` are those around it, where there are very many.
    """

    count: int
    index: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """While `run_state` is queued or running, the run's events have what comes after `content`.

    `compared_with` are the answers of its comparison in the order asked for, itself among them.
    """

    id: str
    conversation_id: str
    parent_id: str | None
    role: str
    content: str
    model: str | None
    created_at: int
    run_id: str | None
    run_state: str | None
    error: dict[str, Any] | None
    usage: dict[str, Any] | None
    reasoning: str | None = None
    sources: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning_ms: int | None = None
    credential_id: str | None = None
    siblings: Siblings | None = None
    feedback: dict[str, Any] | None = None
    attachments: tuple[Attachment, ...] = ()
    compared_with: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        siblings = self.siblings or Siblings(1, 0, (self.id,))
        return {
            "id": self.id,
            "conversationId": self.conversation_id,
            "parentId": self.parent_id,
            "role": self.role,
            "content": self.content,
            "model": self.model,
            "createdAt": iso(self.created_at),
            "run": {"id": self.run_id, "state": self.run_state} if self.run_id else None,
            "error": self.error,
            "usage": self.usage,
            "reasoning": self.reasoning,
            "reasoningSeconds": None if self.reasoning_ms is None else self.reasoning_ms / 1000,
            "credentialId": self.credential_id,
            "feedback": self.feedback,
            "sources": self.sources or [],
            "toolCalls": [
                {name: call.get(name) for name in _CALL} for call in self.tool_calls or ()
            ],
            "attachments": [one.as_json() for one in self.attachments],
            "siblings": {
                "count": siblings.count,
                "index": siblings.index,
                "ids": siblings.ids,
            },
            "comparedWith": self.compared_with,
        }


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    conversation_id: str
    message_id: str
    user_message_id: str
    state: str
    model: str | None
    created_at: int
    finished_at: int | None
    last_event: int
    error: dict[str, Any] | None
    credential_id: str | None
    credential_type: str | None
    parameters: dict[str, Any] | None
    usage: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "conversationId": self.conversation_id,
            "messageId": self.message_id,
            "userMessageId": self.user_message_id,
            "state": self.state,
            "model": self.model,
            "createdAt": iso(self.created_at),
            "finishedAt": iso(self.finished_at),
            "lastEvent": self.last_event,
            "error": self.error,
            "credentialId": self.credential_id,
            "credentialType": self.credential_type,
            "parameters": self.parameters,
            "usage": self.usage,
        }


def title_from(content: str) -> str:
    """The first words of a message, at most 60 characters."""
    words = " ".join(content.split())
    if len(words) <= 60:
        return words
    return words[:59].rsplit(" ", 1)[0].rstrip() + "…"
