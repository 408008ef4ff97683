"""Conversations of one owner: find, read, rename, pin, archive, delete.

Every query names the owner; what is absent and what is somebody else's is the same `NotFound`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import (
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import Connection

from alchat_core.conversations.models import Conversation, Message, Page
from alchat_core.db.engine import Database
from alchat_core.db.tables import ACTIVE, conversations, messages, runs
from alchat_core.errors import InvalidInput, NotFound
from alchat_core.ids import new_id, now_ms

_active_run = (
    select(runs.c.id)
    .where(runs.c.conversation_id == conversations.c.id, ACTIVE)
    .correlate(conversations)
    .limit(1)
    .scalar_subquery()
    .label("active_run_id")
)
CONVERSATION = select(
    conversations.c.id,
    conversations.c.title,
    conversations.c.model,
    conversations.c.pinned,
    conversations.c.archived,
    conversations.c.created_at,
    conversations.c.updated_at,
    conversations.c.last_message_at,
    _active_run,
)
_ONE = CONVERSATION.where(
    conversations.c.id == bindparam("wanted"), conversations.c.owner == bindparam("who")
)
_ADD = insert(conversations)
_NEWEST_LEAF = (
    select(messages.c.id)
    .where(messages.c.conversation_id == bindparam("conversation"))
    .order_by(messages.c.id.desc())
    .limit(1)
)
_PARENT = select(messages.c.parent_id).where(
    messages.c.id == bindparam("message"), messages.c.conversation_id == bindparam("conversation")
)


def _path() -> Select[Any]:
    """From one message up to the root, nearest first."""
    step = (
        select(messages.c.id, messages.c.parent_id, literal(1).label("height"))
        .where(
            messages.c.id == bindparam("leaf"),
            messages.c.conversation_id == bindparam("conversation"),
        )
        .cte("path", recursive=True)
    )
    step = step.union_all(
        select(messages.c.id, messages.c.parent_id, step.c.height + 1).where(
            messages.c.id == step.c.parent_id, step.c.height < bindparam("count")
        )
    )
    return (
        select(
            messages.c.id,
            messages.c.conversation_id,
            messages.c.parent_id,
            messages.c.role,
            messages.c.content,
            func.coalesce(messages.c.model, runs.c.model),
            messages.c.created_at,
            runs.c.id.label("run_id"),
            runs.c.state.label("run_state"),
            runs.c.error,
            runs.c.usage,
        )
        .select_from(step)
        .join(messages, messages.c.id == step.c.id)
        .outerjoin(runs, runs.c.message_id == messages.c.id)
        .order_by(step.c.height)
    )


_PATH = _path()


def path(connection: Connection, conversation_id: str, leaf: str, count: int) -> list[Message]:
    """At most `count` messages that end in `leaf`, oldest first."""
    rows = connection.execute(
        _PATH, {"conversation": conversation_id, "leaf": leaf, "count": count}
    )
    found = [Message(*row) for row in rows]
    found.reverse()
    return found


def newest_leaf(connection: Connection, conversation_id: str) -> str | None:
    """The end of the active branch; ids sort by time and nothing is older than its parent."""
    found: str | None = connection.scalar(_NEWEST_LEAF, {"conversation": conversation_id})
    return found


def find(connection: Connection, owner: str, conversation_id: str) -> Conversation:
    """Raises `NotFound`."""
    row = (connection.execute(_ONE, {"wanted": conversation_id, "who": owner})).first()
    if row is None:
        raise NotFound
    return _conversation(row)


def _conversation(row: Sequence[Any]) -> Conversation:
    return Conversation(*row)


class ConversationService:
    """Each method names its owner: the `sub` of the user token."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self,
        owner: str,
        *,
        search: str | None = None,
        archived: bool = False,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Conversation]:
        """Pinned ones first, then by the last message. `search` looks at titles and messages."""
        table = conversations.c
        query = CONVERSATION.where(table.owner == owner, table.archived == archived)
        if search:
            query = query.where(
                or_(
                    table.title.icontains(search, autoescape=True),
                    exists().where(
                        messages.c.conversation_id == table.id,
                        messages.c.content.icontains(search, autoescape=True),
                    ),
                )
            )
        if cursor:
            pinned, moment, last_id = _read_cursor(cursor)
            query = query.where(
                tuple_(table.pinned, table.last_message_at, table.id)
                < tuple_(literal(pinned), literal(moment), literal(last_id))
            )
        query = query.order_by(
            table.pinned.desc(), table.last_message_at.desc(), table.id.desc()
        ).limit(limit + 1)
        found = await self._database.read(
            lambda connection: [_conversation(row) for row in connection.execute(query)],
            slow=bool(search),
        )
        more = len(found) > limit
        found = found[:limit]
        return Page(tuple(found), _write_cursor(found[-1]) if more else None)

    async def create(self, owner: str, *, title: str | None = None) -> Conversation:
        now = now_ms()
        made = Conversation(
            id=new_id("conv"),
            title=title,
            model=None,
            pinned=False,
            archived=False,
            created_at=now,
            updated_at=now,
            last_message_at=now,
            active_run_id=None,
        )
        row = {
            "id": made.id,
            "owner": owner,
            "title": title,
            "model": None,
            "pinned": False,
            "archived": False,
            "created_at": now,
            "updated_at": now,
            "last_message_at": now,
        }
        await self._database.write(lambda connection: connection.execute(_ADD, row))
        return made

    async def get(self, owner: str, conversation_id: str) -> Conversation:
        return await self._database.read(
            lambda connection: find(connection, owner, conversation_id)
        )

    async def change(
        self, owner: str, conversation_id: str, changes: dict[str, Any]
    ) -> Conversation:
        """`changes` holds any of title, pinned, archived."""

        def unit(connection: Connection) -> Conversation:
            find(connection, owner, conversation_id)
            connection.execute(
                update(conversations)
                .where(conversations.c.id == conversation_id, conversations.c.owner == owner)
                .values(**changes, updated_at=now_ms())
            )
            return find(connection, owner, conversation_id)

        return await self._database.write(unit)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Everything below it goes with it."""

        def unit(connection: Connection) -> None:
            find(connection, owner, conversation_id)
            connection.execute(
                delete(conversations).where(
                    conversations.c.id == conversation_id, conversations.c.owner == owner
                )
            )

        await self._database.write(unit)

    async def messages(
        self, owner: str, conversation_id: str, *, before: str | None = None, limit: int = 100
    ) -> Page[Message]:
        """A page of the active branch, newest last; `before` is the oldest message known."""

        def unit(connection: Connection) -> list[Message]:
            find(connection, owner, conversation_id)
            if before is None:
                leaf = newest_leaf(connection, conversation_id)
            else:
                row = connection.execute(
                    _PARENT, {"message": before, "conversation": conversation_id}
                ).first()
                if row is None:
                    raise InvalidInput("before: there is no such message in this conversation.")
                leaf = row[0]
            return path(connection, conversation_id, leaf, limit) if leaf else []

        found = await self._database.read(unit)
        return Page(tuple(found), found[0].id if found and found[0].parent_id else None)


def _write_cursor(last: Conversation) -> str:
    raw = orjson.dumps([last.pinned, last.last_message_at, last.id])
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[bool, int, str]:
    try:
        raw = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        pinned, moment, last_id = raw
    except (ValueError, TypeError, binascii.Error):
        raise InvalidInput("cursor: take it from nextCursor of an earlier page.") from None
    if not (isinstance(pinned, bool) and isinstance(moment, int) and isinstance(last_id, str)):
        raise InvalidInput("cursor: take it from nextCursor of an earlier page.")
    return pinned, moment, last_id
