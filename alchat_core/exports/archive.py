"""All conversations as one ZIP, made while it is sent: one file each, and an index at its end.

One conversation at a time is in memory, beside the lines of the index.
"""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from typing import Any, Literal

import orjson
from sqlalchemy import bindparam, select

from alchat_core.conversations.models import UNTITLED
from alchat_core.db.engine import Database
from alchat_core.db.tables import conversations
from alchat_core.errors import NotFound
from alchat_core.exports.document import Exported, as_document, read
from alchat_core.exports.markdown import as_markdown, plain
from alchat_core.exports.names import file_name
from alchat_core.ids import iso, now_ms

FORMAT = "al-chat-export/1"
AT_ONCE = 100
Kind = Literal["markdown", "json"]
ENDINGS: dict[Kind, str] = {"markdown": "md", "json": "json"}
MEDIA_TYPES: dict[Kind, str] = {
    "markdown": "text/markdown; charset=utf-8",
    "json": "application/json",
}

_IDS = (
    select(conversations.c.id)
    .where(
        conversations.c.owner == bindparam("who"),
        conversations.c.deleted_at.is_(None),
        conversations.c.temporary.is_(False),
        conversations.c.id > bindparam("after"),
    )
    .order_by(conversations.c.id)
    .limit(AT_ONCE)
)


def content_of(exported: Exported, kind: Kind) -> bytes:
    if kind == "markdown":
        return as_markdown(exported).encode()
    return orjson.dumps(as_document(exported), option=orjson.OPT_INDENT_2)


class _Sink(io.RawIOBase):
    """Takes what the archive writes until it is fetched; zipfile sees that it cannot go back."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


class Exports:
    """Built once per process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def one(self, owner: str, conversation_id: str, kind: Kind) -> tuple[str, bytes]:
        """The name and content of its file. Raises `NotFound`."""

        found = await self._read(owner, conversation_id)
        name = file_name(found.conversation.title, found.conversation.created_at, ENDINGS[kind])
        return name, await asyncio.to_thread(content_of, found, kind)

    async def all(self, owner: str, kind: Kind) -> AsyncIterator[bytes]:
        """The ZIP in pieces. Temporary and deleted conversations are not in it."""
        sink = _Sink()
        lines: list[dict[str, Any]] = []
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            async for conversation_id in self._ids(owner):
                try:
                    exported = await self._read(owner, conversation_id)
                except NotFound:
                    continue  # deleted since
                lines.append(await asyncio.to_thread(_add, archive, exported, kind))
                if piece := sink.take():
                    yield piece
            await asyncio.to_thread(_add_index, archive, lines, kind)
        yield sink.take()

    async def _read(self, owner: str, conversation_id: str) -> Exported:
        return await self._database.read(
            lambda connection: read(connection, owner, conversation_id), slow=True
        )

    async def _ids(self, owner: str) -> AsyncIterator[str]:
        given = {"who": owner, "after": ""}
        while True:
            found = await self._database.read(
                lambda connection: list(connection.scalars(_IDS, given))
            )
            for one in found:
                yield one
            if len(found) < AT_ONCE:
                return
            given["after"] = found[-1]


def _add(archive: zipfile.ZipFile, exported: Exported, kind: Kind) -> dict[str, Any]:
    """Writes one conversation; its line in the index."""
    row = exported.conversation
    name = "conversations/" + file_name(row.title, row.created_at, ENDINGS[kind], row.id[-8:])
    _write(archive, name, content_of(exported, kind))
    return {
        "id": row.id,
        "title": row.title,
        "file": name,
        "createdAt": iso(row.created_at),
        "lastMessageAt": iso(row.last_message_at),
        "messages": len(exported.messages),
    }


def _add_index(archive: zipfile.ZipFile, lines: list[dict[str, Any]], kind: Kind) -> None:
    if kind == "json":
        index = {"format": FORMAT, "exportedAt": iso(now_ms()), "conversations": lines}
        _write(archive, "index.json", orjson.dumps(index, option=orjson.OPT_INDENT_2))
        return
    entries = [f"- [{plain(line['title'] or UNTITLED)}](<{line['file']}>)" for line in lines]
    _write(archive, "index.md", "\n".join(["# Conversations", "", *entries, ""]).encode())


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A fixed date: the one of today tells nothing, and zipfile would take the local time.
    about = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    about.compress_type = zipfile.ZIP_DEFLATED
    about.external_attr = 0o600 << 16
    archive.writestr(about, content)
