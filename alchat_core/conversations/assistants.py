"""Prompts and assistants: a name, a prompt, and with it a model, parameters, files and tools.

A shared one can be read by every user of the portal and is changed by its owner alone. To whom it
is not shared, it is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection

from alchat_core.attachments.background import of_assistants, put_files
from alchat_core.attachments.models import Attachment
from alchat_core.conversations.models import Page
from alchat_core.db.engine import Database
from alchat_core.db.tables import assistants
from alchat_core.errors import NotFound, NotYours, TooManyAssistants
from alchat_core.ids import iso, new_id, now_ms
from alchat_core.tools.servers import check_tools

# Written out: only so can the partial index serve.
_SHARED: ColumnElement[bool] = literal_column("assistants.shared")
_READABLE = select(
    assistants.c.id,
    assistants.c.owner,
    assistants.c.owner_name,
    assistants.c.kind,
    assistants.c.name,
    assistants.c.prompt,
    assistants.c.model,
    assistants.c.parameters,
    assistants.c.shared,
    assistants.c.created_at,
    assistants.c.updated_at,
    assistants.c.tools,
).where(or_(assistants.c.owner == bindparam("who"), _SHARED))
_ONE = _READABLE.where(assistants.c.id == bindparam("wanted"))
_COUNT = select(func.count()).where(assistants.c.owner == bindparam("who"))


@dataclass(frozen=True, slots=True)
class Assistant:
    """`kind` is `prompt`, to be put into a message, or `assistant`, to begin a conversation with;
    both can do both.
    """

    id: str
    owner: str
    owner_name: str
    kind: str
    name: str
    prompt: str
    model: str | None
    parameters: dict[str, Any] | None
    shared: bool
    created_at: int
    updated_at: int
    tools: list[str] | None = None
    files: tuple[Attachment, ...] = ()

    def as_json(self, reader: str) -> dict[str, Any]:
        """As `reader` sees it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "name": self.name,
            "prompt": self.prompt,
            "model": self.model,
            "parameters": self.parameters,
            "tools": self.tools or [],
            "shared": self.shared,
            "own": self.owner == reader,
            "owner": self.owner_name,
            "files": [
                {
                    "id": one.id if self.owner == reader else None,
                    "name": one.name,
                    "mediaType": one.media_type,
                    "bytes": one.bytes,
                    "pages": one.pages,
                }
                for one in self.files
            ],
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
        }


def readable(connection: Connection, who: str, assistant_id: str) -> Assistant:
    """One's own, or a shared one. Raises `NotFound`."""
    row = connection.execute(_ONE, {"wanted": assistant_id, "who": who}).first()
    if row is None:
        raise NotFound
    return _with_files(connection, [Assistant(*row)])[0]


def _with_files(connection: Connection, found: Sequence[Assistant]) -> list[Assistant]:
    files = of_assistants(connection, [one.id for one in found])
    return [replace(one, files=files.get(one.id, ())) for one in found]


def _own(connection: Connection, who: str, assistant_id: str) -> Assistant:
    """Raises `NotFound`, or `NotYours` for one that somebody else shares."""
    found = readable(connection, who, assistant_id)
    if found.owner != who:
        raise NotYours
    return found


class AssistantService:
    """`limit` is how many one user may keep; `owner` and `who` are the `sub` of a user token."""

    def __init__(self, database: Database, *, limit: int) -> None:
        self._database = database
        self._limit = limit

    async def list(
        self, who: str, *, kind: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> Page[Assistant]:
        """One's own and the shared ones of others, the newest first; the cursor is an id."""
        query = _READABLE
        if kind is not None:
            query = query.where(assistants.c.kind == kind)
        if cursor:
            query = query.where(assistants.c.id < cursor)
        query = query.order_by(assistants.c.id.desc()).limit(limit + 1)
        found = await self._database.read(
            lambda connection: _with_files(
                connection,
                [Assistant(*row) for row in connection.execute(query, {"who": who}).all()],
            )
        )
        more = len(found) > limit
        found = found[:limit]
        return Page(tuple(found), found[-1].id if more else None)

    async def get(self, who: str, assistant_id: str) -> Assistant:
        """Raises `NotFound`."""
        return await self._database.read(lambda connection: readable(connection, who, assistant_id))

    async def create(
        self, owner: str, owner_name: str, values: dict[str, Any], files: Sequence[str] = ()
    ) -> Assistant:
        """`values` holds kind, name, prompt, model, parameters, shared and tools: ids of tool
        servers that the owner can use. `files` are ids of files of the owner.

        Raises `TooManyAssistants`, `InvalidInput`.
        """
        now = now_ms()
        made = Assistant(
            id=new_id("asst"),
            owner=owner,
            owner_name=owner_name,
            created_at=now,
            updated_at=now,
            **values,
        )

        def unit(connection: Connection) -> Assistant:
            if (connection.scalar(_COUNT, {"who": owner}) or 0) >= self._limit:
                raise TooManyAssistants
            check_tools(connection, owner, values.get("tools") or ())
            connection.execute(
                insert(assistants).values(
                    id=made.id,
                    owner=owner,
                    owner_name=owner_name,
                    created_at=now,
                    updated_at=now,
                    **values,
                )
            )
            put_files(connection, owner, made.id, files)
            return _with_files(connection, [made])[0]

        return await self._database.write(unit)

    async def change(
        self,
        owner: str,
        owner_name: str,
        assistant_id: str,
        changes: dict[str, Any],
        files: Sequence[str] | None = None,
    ) -> Assistant:
        """`changes` and `files` hold any of what `create` takes. Conversations that began with it
        stay as they are, but for its files. Raises `NotFound`, `NotYours`, `InvalidInput`.
        """

        def unit(connection: Connection) -> Assistant:
            _own(connection, owner, assistant_id)
            if "tools" in changes:
                check_tools(connection, owner, changes["tools"])
            connection.execute(
                update(assistants)
                .where(assistants.c.id == assistant_id, assistants.c.owner == owner)
                .values(**changes, owner_name=owner_name, updated_at=now_ms())
            )
            if files is not None:
                put_files(connection, owner, assistant_id, files)
            return readable(connection, owner, assistant_id)

        return await self._database.write(unit)

    async def delete(self, owner: str, assistant_id: str) -> None:
        """Conversations that began with it stay as they are, without its files.

        Raises `NotFound`, `NotYours`.
        """

        def unit(connection: Connection) -> None:
            _own(connection, owner, assistant_id)
            connection.execute(
                delete(assistants).where(
                    assistants.c.id == assistant_id, assistants.c.owner == owner
                )
            )

        await self._database.write(unit)
