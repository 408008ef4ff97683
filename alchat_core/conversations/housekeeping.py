"""Really deletes what was deleted, when its time for an undo is over, and temporary conversations.

All their rows go, in small units, so that answers meanwhile are not held up. On SQLite what is
deleted is overwritten (`secure_delete`), and so are the write-ahead log and the search index, where
it would stay on for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from sqlalchemy import (
    ColumnElement,
    bindparam,
    delete,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.engine import Connection

from alchat_core.attachments.service import AttachmentService
from alchat_core.db.engine import Database
from alchat_core.db.tables import (
    ACTIVE,
    conversations,
    idempotency_keys,
    messages,
    runs,
    search_texts,
)
from alchat_core.ids import now_ms
from alchat_core.logs import describe

log = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
ROWS_AT_ONCE = 200
INDEX_PAGES_AT_ONCE = 64
INDEX_EVERY_MS = 3600 * 1000
# The time at which something was deleted that has no undo.
NO_UNDO = 0

_KEYS = delete(idempotency_keys).where(
    idempotency_keys.c.run_id.in_(
        select(runs.c.id).where(runs.c.conversation_id == bindparam("conversation"))
    )
)
# Newest first: nothing is older than its parent, so no message loses its parent before it goes.
_MESSAGES = delete(messages).where(
    messages.c.id.in_(
        select(messages.c.id)
        .where(messages.c.conversation_id == bindparam("conversation"))
        .order_by(messages.c.id.desc())
        .limit(ROWS_AT_ONCE)
    )
)
_TEXTS = delete(search_texts).where(
    search_texts.c.number.in_(
        select(search_texts.c.number)
        .where(search_texts.c.conversation_id == bindparam("conversation"))
        .limit(ROWS_AT_ONCE)
    )
)
_CONVERSATION = delete(conversations).where(conversations.c.id == bindparam("conversation"))
# Written out: only so can the partial index serve.
_TEMPORARY: ColumnElement[bool] = literal_column("conversations.temporary")
_UNUSED = ~(
    select(runs.c.id)
    .where(runs.c.conversation_id == conversations.c.id, ACTIVE)
    .correlate(conversations)
    .exists()
)


async def delete_for_good(database: Database, conversation_id: str) -> None:
    """All rows of a conversation that is hidden already; a crash in between leaves the rest to
    the next start.
    """

    def unit(connection: Connection) -> bool:
        given = {"conversation": conversation_id}
        connection.execute(_KEYS, given)
        for some in (_MESSAGES, _TEXTS):
            if connection.execute(some, given).rowcount == ROWS_AT_ONCE:
                return False
        connection.execute(_CONVERSATION, given)
        return True

    done = False
    while not done:
        done = await database.write(unit)
        await asyncio.sleep(0)


class Housekeeping:
    """Built once per process; `start()` before the first request, `stop()` before the end.

    Minutes: for how long a deletion can be undone, and how long a temporary conversation lives
    after its last use.
    """

    def __init__(
        self,
        database: Database,
        attachments: AttachmentService,
        *,
        undo_minutes: float,
        temporary_minutes: float,
    ) -> None:
        self._database = database
        self._attachments = attachments
        self._undo_ms = round(undo_minutes * 60_000)
        self._temporary_ms = round(temporary_minutes * 60_000)
        self._index_due = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Deletes what is due and all temporary conversations, then looks regularly."""
        await self.look(all_temporary=True)
        self._task = asyncio.create_task(self._look_on(), name="housekeeping")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def look(self, *, all_temporary: bool = False) -> int:
        """How many conversations were really deleted."""
        now = now_ms()
        due = conversations.c.deleted_at <= now - self._undo_ms
        left = _TEMPORARY & _UNUSED
        if not all_temporary:
            left &= conversations.c.updated_at <= now - self._temporary_ms

        def anything(connection: Connection) -> bool:
            return any(
                connection.scalar(select(conversations.c.id).where(condition).limit(1))
                for condition in (due, left)
            )

        def unit(connection: Connection) -> list[str]:
            connection.execute(update(conversations).where(left).values(deleted_at=NO_UNDO))
            return list(connection.scalars(select(conversations.c.id).where(due)))

        if not await self._database.read(anything):
            return 0
        found = await self._database.write(unit)
        for conversation_id in found:
            await self._attachments.forget(conversation_id)
            await delete_for_good(self._database, conversation_id)
        await self._database.scrub()
        if now >= self._index_due:
            await self.clean_index()
        return len(found)

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.look()
                await self._attachments.look()
            except Exception as error:  # noqa: BLE001 - the next look may do better
                log.warning("housekeeping failed: %s", describe(error))

    async def clean_index(self) -> None:
        """FTS5 only marks words as gone; merging all its parts leaves them out. This does it at
        once; it is done every hour anyway.
        """
        self._index_due = now_ms() + INDEX_EVERY_MS
        if not self._database.sqlite:
            return
        pages = -INDEX_PAGES_AT_ONCE  # a negative number begins, positive ones go on

        def unit(connection: Connection) -> int:
            before = connection.scalar(text("SELECT total_changes()")) or 0
            connection.execute(
                text("INSERT INTO search_index (search_index, rank) VALUES ('merge', :pages)"),
                {"pages": pages},
            )
            return int(connection.scalar(text("SELECT total_changes()")) or 0) - int(before)

        # By FTS5's documentation nothing is left to do when fewer than two rows have changed.
        while await self._database.write(unit) >= 2:
            pages = INDEX_PAGES_AT_ONCE
            await asyncio.sleep(0)
        await self._database.scrub()
