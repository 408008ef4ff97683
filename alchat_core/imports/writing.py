"""Writes conversations from elsewhere in small units, so that answers meanwhile are not held up.

Until the last unit of a conversation it is hidden as a deleted one is, with a time in the future:
what a crash leaves behind is deleted for good an hour later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite
from sqlalchemy.engine import Connection

from alchat_core.conversations.search import put_words
from alchat_core.db.engine import Database
from alchat_core.db.tables import (
    attachments,
    conversation_tags,
    conversations,
    feedback,
    import_origins,
    message_attachments,
    messages,
)
from alchat_core.ids import new_id, now_ms

# Most of the work are the words of the index; on SQLite it is done on the loop.
ROWS_AT_ONCE = 8
CHARS_AT_ONCE = 40_000
MAX_PAUSE_SECONDS = 0.05
HIDDEN_MS = 3600 * 1000

_ABOUT = (
    "title",
    "model",
    "pinned",
    "archived",
    "created_at",
    "last_message_at",
    "folder",
    "system_prompt",
    "parameters",
    "assistant_id",
    "tools",
)


class Writing:
    """`begin`, `messages` in their order, `done`, for each conversation; `flush` at the end.

    `written` and `message_count` count what is committed.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner
        self._steps: list[Callable[[Connection], None]] = []
        self._rows = 0
        self._chars = 0
        self._ids: list[str] = []
        self._conversation = ""
        self._temporary = False
        self._origin: tuple[str, str] | None = None
        self._finished: list[tuple[str, int]] = []
        self.written: list[str] = []
        self.message_count = 0

    async def begin(
        self, about: dict[str, Any], words: str, origin: tuple[str, str] | None
    ) -> None:
        """`about` names what stands in `Found` (and in a copy: assistant_id, tools and temporary),
        `words` are those of the title for the index, `origin` is source and id there.
        """
        made = self._conversation = new_id("conv")
        self._ids = []
        self._origin = origin
        now = now_ms()
        temporary = self._temporary = bool(about.get("temporary"))
        row = {
            **{name: about.get(name) for name in _ABOUT},
            "id": made,
            "owner": self._owner,
            "updated_at": now,
            "deleted_at": now + HIDDEN_MS,
            "temporary": temporary,
            "title_origin": "user",
        }
        tags = [{"conversation_id": made, "tag": tag} for tag in about.get("tags") or ()]

        def step(connection: Connection) -> None:
            connection.execute(insert(conversations), row)
            if tags:
                connection.execute(insert(conversation_tags), tags)
            if not temporary:
                put_words(connection, made, [(None, words)])

        await self._add(step, 1, 0)

    async def messages(self, rows: Sequence[Sequence[Any]]) -> None:
        """Each is (place of the parent, role, content, reasoning, model, created at, rating,
        comment, sources, words), the parent's among all messages of the conversation; a copy
        adds tool calls and ids of files.
        """
        made = self._conversation
        temporary = self._temporary
        added, rated, words = [], [], []
        attached: dict[str, list[str]] = {}
        size = 0
        for row in rows:
            parent, role, content, reasoning, model, created_at = row[:6]
            rating, comment, sources, found = row[6:10]
            calls, files = row[10:] or (None, ())
            message_id = new_id("msg")
            added.append(
                {
                    "id": message_id,
                    "conversation_id": made,
                    "parent_id": None if parent is None else self._ids[parent],
                    "role": role,
                    "content": content,
                    "model": model,
                    "created_at": created_at,
                    "reasoning": reasoning,
                    "sources": sources,
                    "tool_calls": calls,
                }
            )
            if files:
                attached[message_id] = list(files)
            self._ids.append(message_id)
            words.append((message_id, found))
            size += len(content) + len(reasoning or "")
            if rating:
                rated.append(
                    {
                        "message_id": message_id,
                        "rating": rating,
                        "comment": comment,
                        "created_at": created_at,
                        "updated_at": created_at,
                    }
                )

        def step(connection: Connection) -> None:
            connection.execute(insert(messages), added)
            if rated:
                connection.execute(insert(feedback), rated)
            if attached:
                _attach(connection, made, attached)
            if not temporary:
                put_words(connection, made, words)

        if added:
            await self._add(step, len(added), size)

    async def done(self, active: int | None) -> str:
        """Shows it; its id. `active` is the place of the message that ends the active branch."""
        made, origin = self._conversation, self._origin
        leaf = self._ids[active] if active is not None else None

        def step(connection: Connection) -> None:
            connection.execute(
                update(conversations)
                .where(conversations.c.id == made)
                .values(deleted_at=None, active_leaf_id=leaf)
            )
            if origin is not None:
                _remember(connection, self._owner, origin, made)

        self._finished.append((made, len(self._ids)))
        await self._add(step, 1, 0)
        return made

    async def flush(self) -> None:
        """Commits what waits."""
        steps, self._steps = self._steps, []
        finished, self._finished = self._finished, []
        self._rows = self._chars = 0
        if not steps:
            return

        def unit(connection: Connection) -> None:
            for step in steps:
                step(connection)

        begin = time.monotonic()
        await self._database.write(unit)
        # Half of the time belongs to the answers that are being written.
        await asyncio.sleep(min(time.monotonic() - begin, MAX_PAUSE_SECONDS))
        self.written += [made for made, _ in finished]
        self.message_count += sum(count for _, count in finished)

    async def _add(self, step: Callable[[Connection], None], rows: int, chars: int) -> None:
        self._steps.append(step)
        self._rows += rows
        self._chars += chars
        if self._rows >= ROWS_AT_ONCE or self._chars >= CHARS_AT_ONCE:
            await self.flush()


def _attach(connection: Connection, conversation_id: str, files: dict[str, list[str]]) -> None:
    """The files of messages, but for those that are deleted by now."""
    wanted = {one for ids in files.values() for one in ids}
    there = set(
        connection.scalars(select(attachments.c.id).where(attachments.c.id.in_(sorted(wanted))))
    )
    rows = [
        {
            "message_id": message_id,
            "position": position,
            "attachment_id": one,
            "conversation_id": conversation_id,
        }
        for message_id, ids in files.items()
        for position, one in enumerate(ids)
        if one in there
    ]
    if rows:
        connection.execute(insert(message_attachments), rows)


def _remember(connection: Connection, owner: str, origin: tuple[str, str], made: str) -> None:
    """What was imported before and is deleted may come again."""
    upsert = upsert_sqlite if connection.dialect.name == "sqlite" else upsert_postgresql
    source, external_id = origin
    row = {
        "owner": owner,
        "source": source,
        "external_id": external_id,
        "conversation_id": made,
    }
    connection.execute(
        upsert(import_origins)
        .values(row)
        .on_conflict_do_update(
            index_elements=["owner", "source", "external_id"], set_={"conversation_id": made}
        )
    )
