"""One branch of a conversation as a new conversation of the same owner.

The copy has the texts, reasoning, sources, tool calls, files and feedback of the branch, and model,
prompt, parameters, tools, assistant, folder and tags of the conversation; it is temporary if that
one is. What was spent is not copied: it was spent once. Messages without text and an answer that is
still being written are left out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy.engine import Connection

from alchat_core.attachments.rows import of_conversation
from alchat_core.conversations.feedback import with_feedback
from alchat_core.conversations.models import Conversation, Message
from alchat_core.conversations.service import find
from alchat_core.conversations.tree import active_leaf, path
from alchat_core.conversations.words import indexed
from alchat_core.db.engine import Database
from alchat_core.errors import InvalidInput
from alchat_core.ids import now_ms
from alchat_core.imports.writing import ROWS_AT_ONCE, Writing

# The whole branch, however long.
ALL = 2**31 - 1


class CopyService:
    """Built once per process. Each method names its owner."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def copy(
        self,
        owner: str,
        conversation_id: str,
        *,
        message_id: str | None = None,
        title: str | None = None,
    ) -> str:
        """Copies the active branch, or the one from the first message to that one; the id.

        Raises `NotFound`, `InvalidInput`.
        """

        def unit(connection: Connection) -> tuple[Conversation, list[Message], dict[str, Any]]:
            found = find(connection, owner, conversation_id)
            leaf = message_id or active_leaf(connection, conversation_id)
            branch = path(connection, conversation_id, leaf, ALL) if leaf else []
            if message_id and not branch:
                raise InvalidInput("messageId: there is no such message in this conversation.")
            said = [
                message
                for message in branch
                if message.content and message.run_state not in ("queued", "running")
            ]
            if not said:
                raise InvalidInput("There is nothing to copy here yet. Send a message first.")
            files = of_conversation(connection, conversation_id)
            return found, with_feedback(connection, said), files

        found, branch, files = await self._database.read(unit, slow=True)
        rows = await asyncio.to_thread(_rows, owner, branch, files)
        now = now_ms()
        about = {
            "title": title or found.title,
            "model": found.model,
            "pinned": False,
            "archived": False,
            "created_at": now,
            "last_message_at": now,
            "folder": found.folder,
            "tags": found.tags,
            "system_prompt": found.system_prompt,
            "parameters": found.parameters,
            "temporary": found.temporary,
            "assistant_id": found.assistant_id,
            "tools": found.tools,
        }
        writing = Writing(self._database, owner)
        words = " ".join(indexed(owner, title or found.title or ""))
        await writing.begin(about, words, None)
        for place in range(0, len(rows), ROWS_AT_ONCE):
            await writing.messages(rows[place : place + ROWS_AT_ONCE])
            await asyncio.sleep(0)
        made = await writing.done(len(rows) - 1)
        await writing.flush()
        return made


def _rows(owner: str, branch: list[Message], files: dict[str, Any]) -> list[list[Any]]:
    """What `Writing.messages` takes: each message below the one before it."""
    return [
        [
            place - 1 if place else None,
            message.role,
            message.content,
            message.reasoning,
            message.model,
            message.created_at,
            message.feedback["rating"] if message.feedback else None,
            message.feedback["comment"] if message.feedback else None,
            message.sources,
            " ".join(indexed(owner, message.content)),
            message.tool_calls,
            [file.id for file in files.get(message.id, ())],
        ]
        for place, message in enumerate(branch)
    ]
