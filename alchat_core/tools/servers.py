"""The tool servers of a user, those that others share, and what may be called unasked.

A shared server can be used by every user of the portal, who switch it on for each conversation
themselves; it is changed by its owner alone. To whom it is not shared, it is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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

from alchat_core.conversations.models import Page
from alchat_core.db.engine import Database
from alchat_core.db.tables import tool_approvals, tool_servers
from alchat_core.errors import InvalidInput, NotFound, NotYours, TooManyToolServers
from alchat_core.ids import new_id, now_ms
from alchat_core.tools.models import Tool, ToolServer

# Written out: only so can the partial index serve.
_SHARED: ColumnElement[bool] = literal_column("tool_servers.shared")
_READABLE = select(
    tool_servers.c.id,
    tool_servers.c.owner,
    tool_servers.c.owner_name,
    tool_servers.c.name,
    tool_servers.c.url,
    tool_servers.c.needs_token,
    tool_servers.c.shared,
    tool_servers.c.tools,
    tool_servers.c.tools_at,
    tool_servers.c.created_at,
    tool_servers.c.updated_at,
).where(or_(tool_servers.c.owner == bindparam("who"), _SHARED))
_ONE = _READABLE.where(tool_servers.c.id == bindparam("wanted"))
_SOME = _READABLE.where(tool_servers.c.id.in_(bindparam("wanted", expanding=True)))
_COUNT = select(func.count()).where(tool_servers.c.owner == bindparam("who"))
_APPROVED = select(
    tool_approvals.c.server_id, tool_approvals.c.tool, tool_approvals.c.digest
).where(
    tool_approvals.c.owner == bindparam("who"),
    tool_approvals.c.server_id.in_(bindparam("wanted", expanding=True)),
)

Approved = dict[tuple[str, str], str]


def readable(connection: Connection, who: str, server_id: str) -> ToolServer:
    """One's own, or a shared one. Raises `NotFound`."""
    row = connection.execute(_ONE, {"wanted": server_id, "who": who}).first()
    if row is None:
        raise NotFound
    return _server(row)


def usable(
    connection: Connection, who: str, ids: Sequence[str]
) -> tuple[list[ToolServer], Approved]:
    """Those of the servers that are still there for this user, in this order, and the digests of
    the tools that may be called unasked.
    """
    wanted = {"who": who, "wanted": list(ids)}
    found = {row[0]: _server(row) for row in connection.execute(_SOME, wanted)}
    return [found[one] for one in ids if one in found], _approved(connection, who, ids)


def check_tools(connection: Connection, who: str, ids: Sequence[str]) -> None:
    """Raises `InvalidInput` for servers that are not there for this user, or come twice."""
    if len(set(ids)) < len(ids):
        raise InvalidInput("tools: name each server once.")
    if ids:
        rows = connection.execute(_SOME, {"who": who, "wanted": list(ids)}).all()
        if len(rows) < len(ids):
            raise InvalidInput(
                "tools: there is no such server for you. Take ids from the list of tool servers."
            )


def _approved(connection: Connection, who: str, ids: Sequence[str]) -> Approved:
    rows = connection.execute(_APPROVED, {"who": who, "wanted": list(ids)})
    return {(server_id, tool): digest for server_id, tool, digest in rows}


def _own(connection: Connection, who: str, server_id: str) -> ToolServer:
    """Raises `NotFound`, or `NotYours` for one that somebody else shares."""
    found = readable(connection, who, server_id)
    if found.owner != who:
        raise NotYours
    return found


def _server(row: Any) -> ToolServer:
    found = ToolServer(*row)
    if row[7] is None:
        return found
    return replace(found, tools=tuple(Tool(**one) for one in row[7]))


class ToolServerService:
    """`limit` is how many one user may keep; `owner` and `who` are the `sub` of a user token."""

    def __init__(self, database: Database, *, limit: int) -> None:
        self._database = database
        self._limit = limit

    async def list(
        self, who: str, *, cursor: str | None = None, limit: int = 50
    ) -> Page[ToolServer]:
        """One's own and the shared ones of others, the newest first; the cursor is an id."""
        query = _READABLE
        if cursor:
            query = query.where(tool_servers.c.id < cursor)
        query = query.order_by(tool_servers.c.id.desc()).limit(limit + 1)
        found = await self._database.read(
            lambda connection: [_server(row) for row in connection.execute(query, {"who": who})]
        )
        more = len(found) > limit
        found = found[:limit]
        return Page(tuple(found), found[-1].id if more else None)

    async def get(self, who: str, server_id: str) -> ToolServer:
        """Raises `NotFound`."""
        return await self._database.read(lambda connection: readable(connection, who, server_id))

    async def approved(self, who: str, server_id: str) -> Approved:
        """The digests of the tools of this server that may be called unasked."""
        return await self._database.read(lambda connection: _approved(connection, who, [server_id]))

    async def create(self, owner: str, owner_name: str, values: dict[str, Any]) -> ToolServer:
        """`values` holds name, url, needs_token and shared. Raises `TooManyToolServers`."""
        now = now_ms()
        row = {
            "id": new_id("srv"),
            "owner": owner,
            "owner_name": owner_name,
            "created_at": now,
            "updated_at": now,
            **values,
        }

        def unit(connection: Connection) -> ToolServer:
            if (connection.scalar(_COUNT, {"who": owner}) or 0) >= self._limit:
                raise TooManyToolServers
            connection.execute(insert(tool_servers).values(row))
            return readable(connection, owner, row["id"])

        return await self._database.write(unit)

    async def change(
        self, owner: str, owner_name: str, server_id: str, changes: dict[str, Any]
    ) -> ToolServer:
        """`changes` holds any of what `create` takes. Behind another address there are other tools:
        the list and every approval of it are forgotten. Raises `NotFound`, `NotYours`.
        """

        def unit(connection: Connection) -> ToolServer:
            before = _own(connection, owner, server_id)
            values = dict(changes)
            if values.get("url", before.url) != before.url:
                values |= {"tools": None, "tools_at": None}
                connection.execute(
                    delete(tool_approvals).where(tool_approvals.c.server_id == server_id)
                )
            connection.execute(
                update(tool_servers)
                .where(tool_servers.c.id == server_id, tool_servers.c.owner == owner)
                .values(**values, owner_name=owner_name, updated_at=now_ms())
            )
            return readable(connection, owner, server_id)

        return await self._database.write(unit)

    async def delete(self, owner: str, server_id: str) -> None:
        """With every approval of its tools; conversations pass it over from now on.

        Raises `NotFound`, `NotYours`.
        """

        def unit(connection: Connection) -> None:
            _own(connection, owner, server_id)
            connection.execute(
                delete(tool_servers).where(
                    tool_servers.c.id == server_id, tool_servers.c.owner == owner
                )
            )

        await self._database.write(unit)

    async def keep_tools(self, server: ToolServer, tools: Sequence[Tool]) -> None:
        """Keeps what the owner was shown, unless the address is another one by now."""
        await self._database.write(
            lambda connection: connection.execute(
                update(tool_servers)
                .where(
                    tool_servers.c.id == server.id,
                    tool_servers.c.owner == server.owner,
                    tool_servers.c.url == server.url,
                )
                .values(tools=[tool.stored() for tool in tools], tools_at=now_ms())
            )
        )

    async def approve(self, who: str, server_id: str, tool: Tool) -> None:
        """Lets a tool be called unasked, as long as it describes itself as now."""

        def unit(connection: Connection) -> None:
            readable(connection, who, server_id)
            _forget(connection, who, server_id, tool.name)
            connection.execute(
                insert(tool_approvals).values(
                    owner=who,
                    server_id=server_id,
                    tool=tool.name,
                    digest=tool.digest,
                    created_at=now_ms(),
                )
            )

        await self._database.write(unit)

    async def ask_again(self, who: str, server_id: str, tool: str | None = None) -> None:
        """Takes approvals of this user back: of one tool, or of all. Raises `NotFound`."""

        def unit(connection: Connection) -> None:
            readable(connection, who, server_id)
            _forget(connection, who, server_id, tool)

        await self._database.write(unit)


def _forget(connection: Connection, who: str, server_id: str, tool: str | None) -> None:
    query = delete(tool_approvals).where(
        tool_approvals.c.owner == who, tool_approvals.c.server_id == server_id
    )
    connection.execute(query if tool is None else query.where(tool_approvals.c.tool == tool))
