"""Conversations of one owner: find, read, rename, pin, archive, sort, delete, restore.

Every query names the owner; what is absent and what is somebody else's is the same `NotFound`.
"""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import (
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import Connection

from alchat_core.conversations.assistants import readable
from alchat_core.conversations.attached import with_attachments
from alchat_core.conversations.feedback import with_feedback
from alchat_core.conversations.housekeeping import NO_UNDO, delete_for_good
from alchat_core.conversations.models import Conversation, Message, Page
from alchat_core.conversations.search import Entry, Filters, Hit, found_in, hits, put
from alchat_core.conversations.tree import (
    ACTIVE_LEAF,
    active_leaf,
    comparison,
    newest_leaf_below,
    path,
    with_siblings,
)
from alchat_core.conversations.words import Query
from alchat_core.db.engine import Database
from alchat_core.db.tables import ACTIVE, conversation_tags, conversations, messages, runs
from alchat_core.errors import InvalidInput, NotFound
from alchat_core.ids import new_id, now_ms
from alchat_core.tools.servers import check_tools

_active_run = (
    select(runs.c.id)
    .where(runs.c.conversation_id == conversations.c.id, ACTIVE)
    .correlate(conversations)
    .limit(1)
    .scalar_subquery()
    .label("active_run_id")
)
# The answer at the end of the active branch has ended, not by Stop, and was not read since.
_unread = (
    exists()
    .where(
        runs.c.message_id == ACTIVE_LEAF,
        runs.c.state.in_(("completed", "failed", "interrupted")),
        runs.c.id > func.coalesce(conversations.c.seen_run_id, ""),
    )
    .correlate(conversations)
    .label("unread")
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
    ACTIVE_LEAF,
    conversations.c.temporary,
    conversations.c.folder,
    conversations.c.assistant_id,
    _unread,
).where(conversations.c.deleted_at.is_(None))
_ONE = CONVERSATION.add_columns(
    conversations.c.system_prompt, conversations.c.parameters, conversations.c.tools
).where(conversations.c.id == bindparam("wanted"), conversations.c.owner == bindparam("who"))
_TAGS = (
    select(conversation_tags.c.conversation_id, conversation_tags.c.tag)
    .where(conversation_tags.c.conversation_id.in_(bindparam("wanted", expanding=True)))
    .order_by(conversation_tags.c.tag)
)
_ADD = insert(conversations)
_OF_RUN = select(runs.c.conversation_id).where(
    runs.c.id == bindparam("run"), runs.c.owner == bindparam("who")
)
_READ_UP_TO = (
    update(conversations)
    .where(
        conversations.c.id == bindparam("conversation"),
        func.coalesce(conversations.c.seen_run_id, "") < bindparam("run"),
    )
    .values(seen_run_id=bindparam("run"))
)
# An answer that was begun before and is still being written is no part of what was read before.
_OLDER_ACTIVE = select(func.min(runs.c.id)).where(
    runs.c.conversation_id == bindparam("conversation"), runs.c.id < bindparam("run"), ACTIVE
)
_BEFORE = select(func.max(runs.c.id)).where(
    runs.c.conversation_id == bindparam("conversation"), runs.c.id < bindparam("run")
)
_OWNED = (
    select(messages.c.parent_id)
    .join(conversations, conversations.c.id == messages.c.conversation_id)
    .where(
        messages.c.id == bindparam("message"),
        conversations.c.owner == bindparam("who"),
        conversations.c.deleted_at.is_(None),
    )
)
_PARENT = select(messages.c.parent_id).where(
    messages.c.id == bindparam("message"), messages.c.conversation_id == bindparam("conversation")
)


def find(connection: Connection, owner: str, conversation_id: str) -> Conversation:
    """Raises `NotFound`."""
    row = (connection.execute(_ONE, {"wanted": conversation_id, "who": owner})).first()
    if row is None:
        raise NotFound
    system_prompt, parameters, tools = row[-3:]
    found = _conversations(connection, [row[:-3]])[0]
    return replace(found, system_prompt=system_prompt, parameters=parameters, tools=tools)


def _conversations(connection: Connection, rows: Sequence[Sequence[Any]]) -> list[Conversation]:
    """What `CONVERSATION` reads, with the tags of all."""
    if not rows:
        return []
    tags: dict[str, list[str]] = defaultdict(list)
    for conversation_id, tag in connection.execute(_TAGS, {"wanted": [row[0] for row in rows]}):
        tags[conversation_id].append(tag)
    return [replace(Conversation(*row), tags=tuple(sorted(tags[row[0]]))) for row in rows]


def _set_tags(connection: Connection, conversation_id: str, tags: Iterable[str]) -> None:
    connection.execute(
        delete(conversation_tags).where(conversation_tags.c.conversation_id == conversation_id)
    )
    rows = [{"conversation_id": conversation_id, "tag": tag} for tag in sorted(set(tags))]
    if rows:
        connection.execute(insert(conversation_tags), rows)


class ConversationService:
    """Each method names its owner: the `sub` of the user token.

    For `undo_minutes` a deleted conversation can be restored; 0 deletes at once.
    """

    def __init__(self, database: Database, *, undo_minutes: float = 0) -> None:
        self._database = database
        self._undo_ms = round(undo_minutes * 60_000)

    async def list(
        self,
        owner: str,
        *,
        search: str | None = None,
        archived: bool = False,
        folder: str | None = None,
        tag: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Conversation]:
        """Pinned ones first, then by the last message. `search`: words in titles and messages."""
        table = conversations.c
        query = CONVERSATION.where(
            table.owner == owner, table.archived == archived, table.temporary.is_(False)
        )
        if folder is not None:
            query = query.where(table.folder == folder)
        if tag is not None:
            query = query.where(
                exists().where(
                    conversation_tags.c.conversation_id == table.id, conversation_tags.c.tag == tag
                )
            )
        words = Query(search) if search and search.strip() else None
        if words is not None and not words:
            return Page((), None)
        if cursor:
            pinned, moment, last_id = _read_cursor(cursor)
            query = query.where(
                tuple_(table.pinned, table.last_message_at, table.id)
                < tuple_(literal(pinned), literal(moment), literal(last_id))
            )
        query = query.order_by(
            table.pinned.desc(), table.last_message_at.desc(), table.id.desc()
        ).limit(limit + 1)

        def unit(connection: Connection) -> list[Conversation]:
            chosen = query
            if words is not None:
                chosen = query.where(found_in(connection, owner, words))
            return _conversations(connection, connection.execute(chosen).all())

        found = await self._database.read(unit, slow=words is not None)
        more = len(found) > limit
        found = found[:limit]
        return Page(tuple(found), _write_cursor(found[-1]) if more else None)

    async def search(
        self,
        owner: str,
        words: str,
        filters: Filters,
        *,
        cursor: str | None = None,
        limit: int = 20,
    ) -> Page[Hit]:
        """Titles and messages of all branches with all of these words, the newest first."""
        query = Query(words)
        below = _read_number(cursor) if cursor else None
        if not query:
            return Page((), None)
        found = await self._database.read(
            lambda connection: hits(
                connection, owner, query, filters, below=below, limit=limit + 1
            ),
            slow=True,
        )
        more = len(found) > limit
        found = found[:limit]
        return Page(tuple(found), str(found[-1].number) if more else None)

    async def create(
        self,
        owner: str,
        *,
        title: str | None = None,
        temporary: bool = False,
        assistant_id: str | None = None,
        system_prompt: str | None = None,
        parameters: dict[str, Any] | None = None,
        tools: Sequence[str] = (),
    ) -> Conversation:
        """A temporary one is in no list and no search, and is deleted soon after its last use.

        Prompt, model, parameters and tools of the assistant are copied, as they are now; what is
        given beside it goes before. `tools` are ids of tool servers. Raises `NotFound` where the
        owner cannot read that assistant, `InvalidInput` for tool servers that are not there.
        """
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
            temporary=temporary,
            assistant_id=assistant_id,
            system_prompt=system_prompt,
            parameters=parameters,
            tools=list(tools) or None,
        )
        row = {
            "id": made.id,
            "owner": owner,
            "title": title,
            "pinned": False,
            "archived": False,
            "created_at": now,
            "updated_at": now,
            "last_message_at": now,
            "temporary": temporary,
            "title_origin": "user" if title else None,
            "assistant_id": assistant_id,
        }

        def unit(connection: Connection) -> Conversation:
            taken = made
            check_tools(connection, owner, tools)
            if assistant_id is not None:
                assistant = readable(connection, owner, assistant_id)
                taken = replace(
                    made,
                    model=assistant.model,
                    system_prompt=system_prompt or assistant.prompt,
                    parameters=parameters or assistant.parameters,
                    # A server that its owner does not share is passed over, like one that is gone.
                    tools=made.tools or assistant.tools or None,
                )
            more = {
                "model": taken.model,
                "system_prompt": taken.system_prompt,
                "parameters": taken.parameters,
                "tools": taken.tools,
            }
            connection.execute(_ADD, {**row, **more})
            put(connection, [Entry(made.id, None, title or "", new=True)])
            return taken

        return await self._database.write(unit)

    async def get(self, owner: str, conversation_id: str) -> Conversation:
        return await self._database.read(
            lambda connection: find(connection, owner, conversation_id)
        )

    async def change(
        self, owner: str, conversation_id: str, changes: dict[str, Any]
    ) -> Conversation:
        """`changes` holds any of title, pinned, archived, folder, tags, active_message_id,
        system_prompt, parameters, tools.

        The branch through the message of that id becomes the active one, down to its newest leaf.
        Raises `NotFound`, `InvalidInput`.
        """

        def unit(connection: Connection) -> Conversation:
            find(connection, owner, conversation_id)
            values = dict(changes)
            if message_id := values.pop("active_message_id", None):
                leaf = newest_leaf_below(connection, conversation_id, message_id)
                if leaf is None:
                    raise InvalidInput(
                        "activeMessageId: there is no such message in this conversation."
                    )
                values["active_leaf_id"] = leaf
            if "title" in values:
                values["title_origin"] = "user"
            if "tools" in values:
                check_tools(connection, owner, values["tools"])
                values["tools"] = values["tools"] or None
            if (tags := values.pop("tags", None)) is not None:
                _set_tags(connection, conversation_id, tags)
            connection.execute(
                update(conversations)
                .where(conversations.c.id == conversation_id, conversations.c.owner == owner)
                .values(**values, updated_at=now_ms())
            )
            if "title" in values:
                put(connection, [Entry(conversation_id, None, values["title"])])
            return find(connection, owner, conversation_id)

        return await self._database.write(unit)

    async def read_answer(self, owner: str, run_id: str) -> None:
        """Remembers that the owner has read it, and with it all before it, but for what is still
        being written beside it. Raises `NotFound`.
        """

        def unit(connection: Connection) -> None:
            given = {"run": run_id, "who": owner}
            conversation_id = connection.scalar(_OF_RUN, given)
            if conversation_id is None:
                raise NotFound
            given["conversation"] = conversation_id
            older = connection.scalar(_OLDER_ACTIVE, given)
            if older is not None:
                given["run"] = connection.scalar(_BEFORE, {**given, "run": older}) or ""
            connection.execute(_READ_UP_TO, given)

        await self._database.write(unit)

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """Hides it at once. True: for good, so that `delete_for_good` has to follow."""

        def unit(connection: Connection) -> bool:
            found = find(connection, owner, conversation_id)
            for_good = found.temporary or not self._undo_ms
            connection.execute(
                update(conversations)
                .where(conversations.c.id == conversation_id, conversations.c.owner == owner)
                .values(deleted_at=NO_UNDO if for_good else now_ms())
            )
            return for_good

        return await self._database.write(unit)

    async def delete_for_good(self, conversation_id: str) -> None:
        """Everything below it goes with it, and on SQLite is overwritten."""
        await delete_for_good(self._database, conversation_id)
        await self._database.scrub()

    async def restore(self, owner: str, conversation_id: str) -> Conversation:
        """Takes a deletion back; nothing happens to what was not deleted.

        Raises `NotFound`, too, when the time for it is over.
        """

        def unit(connection: Connection) -> Conversation:
            connection.execute(
                update(conversations)
                .where(
                    conversations.c.id == conversation_id,
                    conversations.c.owner == owner,
                    conversations.c.deleted_at > now_ms() - self._undo_ms,
                    conversations.c.deleted_at > NO_UNDO,
                )
                .values(deleted_at=None)
            )
            return find(connection, owner, conversation_id)

        return await self._database.write(unit)

    async def messages(
        self, owner: str, conversation_id: str, *, before: str | None = None, limit: int = 100
    ) -> Page[Message]:
        """A page of the active branch, newest last; `before` is the oldest message known."""

        def unit(connection: Connection) -> list[Message]:
            find(connection, owner, conversation_id)
            if before is None:
                leaf = active_leaf(connection, conversation_id)
            else:
                row = connection.execute(
                    _PARENT, {"message": before, "conversation": conversation_id}
                ).first()
                if row is None:
                    raise InvalidInput("before: there is no such message in this conversation.")
                leaf = row[0]
            if leaf is None:
                return []
            page = with_siblings(connection, path(connection, conversation_id, leaf, limit))
            return with_attachments(connection, with_feedback(connection, page))

        found = await self._database.read(unit)
        return Page(tuple(found), found[0].id if found and found[0].parent_id else None)

    async def comparison(self, owner: str, message_id: str) -> tuple[Message, ...]:
        """The answers with which that one is compared, itself among them, in the order asked for;
        none if it is in no comparison. Raises `NotFound`.
        """

        def unit(connection: Connection) -> list[Message]:
            row = connection.execute(_OWNED, {"message": message_id, "who": owner}).first()
            if row is None:
                raise NotFound
            return with_feedback(connection, comparison(connection, message_id, row.parent_id))

        return tuple(await self._database.read(unit))


def _read_number(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidInput("cursor: take it from nextCursor of an earlier page.")
    return int(cursor)


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
