"""Attached files of one owner: upload, read, delete, and what nobody needs any more.

Every query names the owner; what is absent and what is somebody else's is the same `NotFound`. Who
uploads a file that another user has learns nothing of it: it is received, read and stored as if it
were new, and only the place where it lies is shared.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from sqlalchemy import ColumnElement, delete, exists, func, insert, not_, or_, select, update
from sqlalchemy.engine import Connection

from alchat_core.attachments.files import Files
from alchat_core.attachments.models import Attachment
from alchat_core.attachments.reading import Reader
from alchat_core.attachments.rows import COLUMNS
from alchat_core.db.engine import Database
from alchat_core.db.tables import assistant_files, attachments, message_attachments
from alchat_core.errors import (
    AttachmentSpaceUsed,
    NotFound,
    TooManyUploads,
    UnreadableAttachment,
)
from alchat_core.ids import new_id, now_ms
from alchat_core.settings import Settings

log = logging.getLogger(__name__)

UPLOADS_AT_ONCE = 3
ROWS_AT_ONCE = 500
_REFERRED = or_(
    exists().where(message_attachments.c.attachment_id == attachments.c.id),
    exists().where(assistant_files.c.attachment_id == attachments.c.id),
)


class AttachmentService:
    """Built once per process; `start()` before the first request."""

    def __init__(self, settings: Settings, database: Database, files: Files) -> None:
        self._database = database
        self.files = files
        self._reader = Reader(settings)
        self._space = settings.alchat_attachment_user_bytes
        self._unsent_ms = round(settings.alchat_attachment_unsent_hours * 3600_000)
        self._uploading: Counter[str] = Counter()
        # A file is not removed between the moment it is stored and the commit of its row.
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Removes what an earlier process left behind."""
        await self._drop(attachments.c.sent & not_(_REFERRED))
        await self.look()
        loop = asyncio.get_running_loop()

        def is_known(sha256s: list[str]) -> set[str]:
            found = self._database.read(lambda connection: _known(connection, sha256s))
            return asyncio.run_coroutine_threadsafe(found, loop).result()

        gone = await asyncio.to_thread(self.files.sweep, is_known)
        if gone:
            log.warning("%d files that no message refers to were removed", gone)

    async def add(self, owner: str, name: str, body: AsyncIterator[bytes]) -> Attachment:
        """Receives a file, finds out what it is, and keeps it.

        How much `body` may be is up to the caller. Raises `AttachmentSpaceUsed`,
        `TooManyUploads`, `UnsupportedAttachment`, `UnreadableAttachment`.
        """
        if self._uploading[owner] >= UPLOADS_AT_ONCE:
            raise TooManyUploads
        self._uploading[owner] += 1
        try:
            if await self._database.read(lambda found: _used(found, owner)) >= self._space:
                raise AttachmentSpaceUsed
            return await self._add(owner, name, body)
        finally:
            self._uploading[owner] -= 1
            if not self._uploading[owner]:
                del self._uploading[owner]

    async def _add(self, owner: str, name: str, body: AsyncIterator[bytes]) -> Attachment:
        place, text = await asyncio.to_thread(self.files.incoming)
        try:
            sha256, size = await self._receive(place, body)
            found = await self._reader.read(place, text, name)
            made = Attachment(
                id=new_id("att"),
                sha256=sha256,
                name=name,
                media_type=found.media_type,
                kind=found.kind,
                bytes=size,
                pages=found.pages,
                characters=found.characters,
                created_at=now_ms(),
            )
            async with self._turn:
                await asyncio.to_thread(self.files.keep, place, text, sha256)
                try:
                    await self._database.write(lambda to: self._insert(to, owner, made))
                except BaseException:
                    await self._remove([sha256])
                    raise
            return made
        finally:
            self.files.discard(place, text)

    async def _receive(self, place: Path, body: AsyncIterator[bytes]) -> tuple[str, int]:
        """Writes the body to its place; its hash and size."""
        digest = hashlib.sha256()
        size = 0
        with self.files.create(place) as file:
            async for piece in body:
                size += len(piece)
                digest.update(piece)
                file.write(piece)
        if not size:
            raise UnreadableAttachment("The file is empty. Choose another and upload it.")
        return digest.hexdigest(), size

    def _insert(self, connection: Connection, owner: str, made: Attachment) -> None:
        if _used(connection, owner) + made.bytes > self._space:
            raise AttachmentSpaceUsed
        connection.execute(
            insert(attachments).values(
                id=made.id,
                owner=owner,
                sha256=made.sha256,
                name=made.name,
                media_type=made.media_type,
                kind=made.kind,
                bytes=made.bytes,
                pages=made.pages,
                characters=made.characters,
                sent=False,
                created_at=made.created_at,
            )
        )

    async def get(self, owner: str, attachment_id: str) -> Attachment:
        return await self._database.read(lambda found: _find(found, owner, attachment_id))

    async def content(self, owner: str, attachment_id: str) -> tuple[Attachment, Path]:
        """The file as it was uploaded, too. Raises `NotFound`."""
        found = await self.get(owner, attachment_id)
        path = self.files.path(found.sha256 or "")
        if not path.is_file():
            raise NotFound
        return found, path

    async def delete(self, owner: str, attachment_id: str) -> None:
        """Messages that had the file go on naming it, assistants lose it. Raises `NotFound`."""

        def unit(connection: Connection) -> list[str]:
            found = _find(connection, owner, attachment_id)
            connection.execute(
                delete(assistant_files).where(assistant_files.c.attachment_id == attachment_id)
            )
            mine = attachments.c.id == attachment_id
            connection.execute(delete(attachments).where(mine, not_(_REFERRED)))
            connection.execute(update(attachments).where(mine).values(sha256=None))
            return [found.sha256 or ""]

        async with self._turn:
            await self._remove(await self._database.write(unit))

    async def forget(self, conversation_id: str) -> None:
        """Before a conversation is deleted for good: its files go, where no other one and no
        assistant has them.
        """
        table = message_attachments.c
        others = message_attachments.alias("others")
        elsewhere = exists().where(
            others.c.attachment_id == table.attachment_id,
            others.c.conversation_id != conversation_id,
        )
        kept = exists().where(assistant_files.c.attachment_id == table.attachment_id)

        def unit(connection: Connection) -> list[str]:
            here = table.conversation_id == conversation_id
            own = list(
                connection.scalars(
                    select(table.attachment_id).where(here, not_(elsewhere), not_(kept)).distinct()
                )
            )
            if not connection.execute(delete(message_attachments).where(here)).rowcount:
                return []
            return _delete(connection, own)

        async with self._turn:
            await self._remove(await self._database.write(unit))

    async def forget_user(self, owner: str) -> int:
        """All files of a user go; how many there were."""

        def unit(connection: Connection) -> tuple[list[str], int]:
            ids = list(
                connection.scalars(select(attachments.c.id).where(attachments.c.owner == owner))
            )
            return _delete(connection, ids), len(ids)

        async with self._turn:
            sha256s, count = await self._database.write(unit)
            await self._remove(sha256s)
        return count

    async def drop_unused(self, owner: str) -> None:
        """After an assistant lost files: those go that nothing else has."""
        mine = (attachments.c.owner == owner) & attachments.c.sent
        await self._drop(mine & not_(_REFERRED))

    async def look(self) -> None:
        """Deletes what was uploaded and not sent in time; called by the housekeeping."""
        await self._drop(
            not_(attachments.c.sent) & (attachments.c.created_at < now_ms() - self._unsent_ms)
        )

    async def _drop(self, condition: ColumnElement[bool]) -> None:
        query = select(attachments.c.id).where(condition)

        def unit(connection: Connection) -> list[str]:
            return _delete(connection, list(connection.scalars(query)))

        if await self._database.read(lambda found: found.scalar(query.limit(1))):
            async with self._turn:
                await self._remove(await self._database.write(unit))

    async def _remove(self, sha256s: Sequence[str]) -> None:
        """Removes those files that no row names."""
        if not sha256s:
            return
        known = await self._database.read(lambda connection: _known(connection, sha256s))
        gone = sorted(set(sha256s) - known - {""})
        await asyncio.to_thread(self.files.remove, gone)


def _find(connection: Connection, owner: str, attachment_id: str) -> Attachment:
    row = connection.execute(
        select(*COLUMNS).where(
            attachments.c.id == attachment_id,
            attachments.c.owner == owner,
            attachments.c.sha256.is_not(None),
        )
    ).first()
    if row is None:
        raise NotFound
    return Attachment(*row)


def _used(connection: Connection, owner: str) -> int:
    """Bytes of all files of one user."""
    query = select(func.coalesce(func.sum(attachments.c.bytes), 0)).where(
        attachments.c.owner == owner, attachments.c.sha256.is_not(None)
    )
    return int(connection.scalar(query) or 0)


def _known(connection: Connection, sha256s: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(sha256s), ROWS_AT_ONCE):
        some = list(sha256s[start : start + ROWS_AT_ONCE])
        query = select(attachments.c.sha256).where(attachments.c.sha256.in_(some))
        found.update(one for one in connection.scalars(query) if one)
    return found


def _delete(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Deletes rows; the hashes that they named."""
    found: list[str] = []
    for start in range(0, len(ids), ROWS_AT_ONCE):
        some = list(ids[start : start + ROWS_AT_ONCE])
        rows = attachments.c.id.in_(some)
        found += [
            one for one in connection.scalars(select(attachments.c.sha256).where(rows)) if one
        ]
        connection.execute(delete(attachments).where(rows))
    return found
