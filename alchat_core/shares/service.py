"""Snapshots: made and revoked by the owner, read and copied by whom they are for.

A snapshot holds what was said on the active branch at that moment: role, text, model and time of
each message that has text and is not still being written, the names of its files, and where in
files its sources stand. Nothing that comes later is in it, and nothing of usage, keys, prompts,
tools, the content of files or other branches. While its conversation is deleted it is not there,
and it is gone for good when that is.
"""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import bindparam, delete, exists, func, insert, or_, select
from sqlalchemy.engine import Connection

from alchat_core.attachments.rows import of_conversation
from alchat_core.auth import User
from alchat_core.conversations.models import UNTITLED
from alchat_core.conversations.service import find
from alchat_core.conversations.tree import active_leaf, path
from alchat_core.conversations.words import indexed
from alchat_core.db.engine import Database
from alchat_core.db.tables import conversations, share_users, shares
from alchat_core.errors import InvalidInput, NotFound, TooManyShares
from alchat_core.ids import iso, now_ms
from alchat_core.imports.writing import ROWS_AT_ONCE, Writing

# The whole branch, however long.
ALL = 2**31 - 1
MAX_USERNAME_CHARS = 200

_SHARES = (
    select(
        shares.c.id,
        shares.c.conversation_id,
        shares.c.title,
        shares.c.everyone,
        shares.c.message_count,
        shares.c.created_at,
    )
    .join(conversations, conversations.c.id == shares.c.conversation_id)
    .where(shares.c.owner == bindparam("who"), conversations.c.deleted_at.is_(None))
    .order_by(shares.c.created_at.desc(), shares.c.id)
)
_OF_ONE = _SHARES.where(shares.c.conversation_id == bindparam("conversation"))
_USERS = (
    select(share_users.c.share_id, share_users.c.username)
    .where(share_users.c.share_id.in_(bindparam("wanted", expanding=True)))
    .order_by(share_users.c.username)
)
_READ = (
    select(shares.c.id, shares.c.title, shares.c.owner_name, shares.c.created_at, shares.c.messages)
    .join(conversations, conversations.c.id == shares.c.conversation_id)
    .where(
        shares.c.id == bindparam("wanted"),
        conversations.c.deleted_at.is_(None),
        or_(
            shares.c.owner == bindparam("who"),
            shares.c.everyone,
            exists().where(
                share_users.c.share_id == shares.c.id,
                share_users.c.username == bindparam("username"),
            ),
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Share:
    """As its owner sees it. `users` is None if every user of the portal may read it."""

    id: str
    conversation_id: str
    title: str | None
    users: tuple[str, ...] | None
    message_count: int
    created_at: int

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "conversationId": self.conversation_id,
            "title": self.title or UNTITLED,
            "users": self.users,
            "messageCount": self.message_count,
            "createdAt": iso(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """As others read it. `messages` is JSON: role, content, model, createdAt, attachments and
    sources of each.
    """

    id: str
    title: str | None
    owner_name: str
    created_at: int
    messages: str

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title or UNTITLED,
            "username": self.owner_name,
            "createdAt": iso(self.created_at),
            "messages": orjson.Fragment(self.messages),
        }


def username_of(given: str) -> str:
    """The name as Papita compares it. Raises `InvalidInput`."""
    name = unicodedata.normalize("NFKC", given).strip().casefold()
    if not name or len(name) > MAX_USERNAME_CHARS:
        raise InvalidInput("users: name users as they sign in to Papita.")
    return name


class ShareService:
    """Built once per process. Each method names its user."""

    def __init__(self, database: Database, *, limit: int) -> None:
        self._database = database
        self._limit = limit

    async def create(
        self, user: User, conversation_id: str, usernames: Iterable[str] | None
    ) -> Share:
        """Raises `NotFound`, `InvalidInput`, `TooManyShares`."""
        named = None
        if usernames is not None:
            named = tuple(sorted({username_of(name) for name in usernames}))
        title, said = await self._database.read(
            lambda connection: _snapshot(connection, user.id, conversation_id), slow=True
        )
        made = Share(
            # 128 random bits: whoever is not told it cannot find it.
            "share_" + secrets.token_hex(16),
            conversation_id,
            title,
            named,
            len(said),
            now_ms(),
        )
        row = {
            "id": made.id,
            "owner": user.id,
            "owner_name": user.username,
            "conversation_id": conversation_id,
            "title": title,
            "everyone": named is None,
            "messages": orjson.dumps(said).decode(),
            "message_count": len(said),
            "created_at": made.created_at,
        }

        def unit(connection: Connection) -> None:
            find(connection, user.id, conversation_id)
            count = connection.scalar(
                select(func.count()).select_from(shares).where(shares.c.owner == user.id)
            )
            if (count or 0) >= self._limit:
                raise TooManyShares
            connection.execute(insert(shares), row)
            if named:
                connection.execute(
                    insert(share_users),
                    [{"share_id": made.id, "username": name} for name in named],
                )

        await self._database.write(unit)
        return made

    async def of_conversation(self, owner: str, conversation_id: str) -> list[Share]:
        """The newest first. Raises `NotFound`."""

        def unit(connection: Connection) -> list[Share]:
            find(connection, owner, conversation_id)
            return _shares(
                connection,
                connection.execute(_OF_ONE, {"who": owner, "conversation": conversation_id}).all(),
            )

        return await self._database.read(unit)

    async def mine(self, owner: str) -> list[Share]:
        """The newest first, all of them: their number has a limit."""
        return await self._database.read(
            lambda connection: _shares(
                connection, connection.execute(_SHARES, {"who": owner}).all()
            )
        )

    async def revoke(self, owner: str, share_id: str) -> None:
        """Raises `NotFound`."""

        def unit(connection: Connection) -> None:
            gone = connection.execute(
                delete(shares).where(shares.c.id == share_id, shares.c.owner == owner)
            )
            if not gone.rowcount:
                raise NotFound

        await self._database.write(unit)
        await self._database.scrub()

    async def read(self, user: User, share_id: str) -> Snapshot:
        """For its owner and whom it is for. Raises `NotFound`."""
        given = {"wanted": share_id, "who": user.id, "username": username_of(user.username)}

        def unit(connection: Connection) -> Snapshot:
            row = connection.execute(_READ, given).first()
            if row is None:
                raise NotFound
            return Snapshot(*row)

        return await self._database.read(unit)

    async def copy(self, user: User, share_id: str) -> str:
        """Makes a conversation of the user's own from it; its id. Raises `NotFound`."""
        snapshot = await self.read(user, share_id)
        title, now = snapshot.title, now_ms()
        rows = await asyncio.to_thread(_rows, user.id, snapshot.messages)
        writing = Writing(self._database, user.id)
        about = {
            "title": title,
            "pinned": False,
            "archived": False,
            "created_at": now,
            "last_message_at": now,
        }
        await writing.begin(about, " ".join(indexed(user.id, title or "")), None)
        for place in range(0, len(rows), ROWS_AT_ONCE):
            await writing.messages(rows[place : place + ROWS_AT_ONCE])
            await asyncio.sleep(0)
        made = await writing.done(len(rows) - 1)
        await writing.flush()
        return made


def _snapshot(
    connection: Connection, owner: str, conversation_id: str
) -> tuple[str | None, list[dict[str, Any]]]:
    found = find(connection, owner, conversation_id)
    if found.temporary:
        raise InvalidInput(
            "A temporary conversation cannot be shared, since nothing of it is to stay."
        )
    leaf = active_leaf(connection, conversation_id)
    files = of_conversation(connection, conversation_id) if leaf else {}
    said = [
        {
            "role": message.role,
            "content": message.content,
            "model": message.model,
            "createdAt": iso(message.created_at),
            "attachments": [
                {"name": one.name, "mediaType": one.media_type, "pages": one.pages}
                for one in files.get(message.id, ())
            ],
            "sources": [
                {"n": one["n"], "name": one["name"], "page": one["page"]}
                for one in message.sources or ()
            ],
        }
        for message in (path(connection, conversation_id, leaf, ALL) if leaf else ())
        if message.content and message.run_state not in ("queued", "running")
    ]
    if not said:
        raise InvalidInput("There is nothing to share here yet. Send a message first.")
    return found.title, said


def _shares(connection: Connection, rows: Iterable[Any]) -> list[Share]:
    rows = list(rows)
    users: dict[str, list[str]] = defaultdict(list)
    if rows:
        for share_id, name in connection.execute(_USERS, {"wanted": [row.id for row in rows]}):
            users[share_id].append(name)
    return [
        Share(
            row.id,
            row.conversation_id,
            row.title,
            None if row.everyone else tuple(users[row.id]),
            row.message_count,
            row.created_at,
        )
        for row in rows
    ]


def _rows(owner: str, messages: str) -> list[list[Any]]:
    """What `Writing.messages` takes: a branch, each message below the one before it."""
    return [
        [
            place - 1 if place else None,
            one["role"],
            one["content"],
            None,
            one["model"],
            _milliseconds(one["createdAt"]),
            None,
            None,
            [{**source, "attachmentId": None, "excerpt": ""} for source in one.get("sources", ())]
            or None,
            " ".join(indexed(owner, one["content"])),
        ]
        for place, one in enumerate(orjson.loads(messages))
    ]


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
