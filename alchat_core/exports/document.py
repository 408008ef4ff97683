"""One conversation as a value to be written: `read` reads it, `as_document` is its JSON.

`docs/export-format.md` describes the JSON. What is in it is the owner's own; there is nothing of a
credential.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.engine import Connection

from alchat_core.conversations.tree import ACTIVE_LEAF, NEWEST_RUN
from alchat_core.db.tables import (
    attachments,
    conversation_tags,
    conversations,
    feedback,
    message_attachments,
    messages,
    runs,
)
from alchat_core.errors import NotFound
from alchat_core.ids import iso

FORMAT = "al-chat-conversation/1"
# Not the ids of files and servers, which mean nothing elsewhere.
_SOURCE = ("n", "name", "page", "excerpt")
_CALL = ("at", "server", "tool", "arguments", "content", "truncated", "isError", "seconds")

_CONVERSATION = select(
    conversations.c.id,
    conversations.c.title,
    conversations.c.model,
    conversations.c.system_prompt,
    conversations.c.parameters,
    conversations.c.folder,
    conversations.c.pinned,
    conversations.c.archived,
    conversations.c.created_at,
    conversations.c.updated_at,
    conversations.c.last_message_at,
    ACTIVE_LEAF.label("active_leaf_id"),
).where(
    conversations.c.id == bindparam("wanted"),
    conversations.c.owner == bindparam("who"),
    conversations.c.deleted_at.is_(None),
)
_TAGS = (
    select(conversation_tags.c.tag)
    .where(conversation_tags.c.conversation_id == bindparam("wanted"))
    .order_by(conversation_tags.c.tag)
)
_MESSAGES = (
    select(
        messages.c.id,
        messages.c.parent_id,
        messages.c.role,
        messages.c.content,
        messages.c.reasoning,
        messages.c.sources,
        messages.c.tool_calls,
        func.coalesce(messages.c.model, runs.c.model).label("model"),
        messages.c.created_at,
        runs.c.state,
        runs.c.error,
        runs.c.usage,
        runs.c.parameters,
        feedback.c.rating,
        feedback.c.comment,
    )
    .select_from(messages)
    .outerjoin(runs, runs.c.id == NEWEST_RUN)
    .outerjoin(feedback, feedback.c.message_id == messages.c.id)
    .where(messages.c.conversation_id == bindparam("wanted"))
    .order_by(messages.c.id)
)


_FILES = (
    select(
        message_attachments.c.message_id,
        attachments.c.name,
        attachments.c.media_type,
        attachments.c.bytes,
        attachments.c.pages,
        attachments.c.sha256,
    )
    .join(attachments, attachments.c.id == message_attachments.c.attachment_id)
    .where(message_attachments.c.conversation_id == bindparam("wanted"))
    .order_by(message_attachments.c.message_id, message_attachments.c.position)
)


@dataclass(frozen=True, slots=True)
class Exported:
    """A conversation with its whole tree. `messages` are rows, none before its parent; `files` are
    rows of name, media type, bytes, pages and SHA-256 by the id of the message.
    """

    conversation: Any
    tags: tuple[str, ...]
    messages: tuple[Any, ...]
    files: dict[str, list[Any]]

    def branch(self) -> list[Any]:
        """The messages of the active branch, oldest first."""
        known = {row.id: row for row in self.messages}
        found = []
        at = known.get(self.conversation.active_leaf_id)
        while at is not None:
            found.append(at)
            at = known.get(at.parent_id)
        found.reverse()
        return found


def read(connection: Connection, owner: str, conversation_id: str) -> Exported:
    """Raises `NotFound`."""
    row = connection.execute(_CONVERSATION, {"wanted": conversation_id, "who": owner}).first()
    if row is None:
        raise NotFound
    wanted = {"wanted": conversation_id}
    files: dict[str, list[Any]] = defaultdict(list)
    for file in connection.execute(_FILES, wanted):
        files[file.message_id].append(file)
    return Exported(
        row,
        tuple(connection.scalars(_TAGS, wanted)),
        tuple(connection.execute(_MESSAGES, wanted).all()),
        files,
    )


def as_document(exported: Exported) -> dict[str, Any]:
    """The whole tree in the format `FORMAT`; moments are RFC 3339."""
    row = exported.conversation
    return {
        "format": FORMAT,
        "id": row.id,
        "title": row.title,
        "model": row.model,
        "systemPrompt": row.system_prompt,
        "parameters": row.parameters,
        "folder": row.folder,
        "tags": exported.tags,
        "pinned": row.pinned,
        "archived": row.archived,
        "createdAt": iso(row.created_at),
        "updatedAt": iso(row.updated_at),
        "lastMessageAt": iso(row.last_message_at),
        "activeMessageId": row.active_leaf_id,
        "messages": [_message(one, exported.files.get(one.id, ())) for one in exported.messages],
    }


def _message(row: Any, files: Iterable[Any]) -> dict[str, Any]:
    given = {"rating": row.rating, "comment": row.comment} if row.rating else None
    return {
        "id": row.id,
        "parentId": row.parent_id,
        "role": row.role,
        "content": row.content,
        "reasoning": row.reasoning,
        "model": row.model,
        "createdAt": iso(row.created_at),
        "state": row.state,
        "error": row.error,
        "usage": row.usage,
        "parameters": row.parameters,
        "feedback": given,
        "attachments": [
            {
                "name": file.name,
                "mediaType": file.media_type,
                "bytes": file.bytes,
                "pages": file.pages,
                "sha256": file.sha256,
            }
            for file in files
        ],
        "sources": [{name: one[name] for name in _SOURCE} for one in row.sources or ()],
        "toolCalls": [{name: call.get(name) for name in _CALL} for call in row.tool_calls or ()],
    }
