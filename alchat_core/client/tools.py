"""Calls about tool servers, and decisions about calls of tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from alchat_core.client.calls import Calls, given, segment
from alchat_core.client.values import Page

Decision = Literal["once", "always", "deny"]


@dataclass(frozen=True, slots=True)
class ToolServer:
    """`own`: whether the user can change it; `owner` is a user name. `tool_count` is None until the
    server was asked for its tools.
    """

    id: str
    name: str
    url: str
    needs_token: bool
    shared: bool
    own: bool
    owner: str
    tool_count: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Tool:
    """`approved`: the user lets it be called unasked."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    approved: bool


class ToolCalls(Calls):
    def tool_servers(self, cursor: str | None = None, limit: int = 50) -> Page[ToolServer]:
        """The user's own and those that others share, the newest first."""
        found = self._call("GET", _PATH, params={"cursor": cursor, "limit": limit})
        return Page(tuple(_server(item) for item in found["toolServers"]), found["nextCursor"])

    def tool_server(self, server_id: str) -> ToolServer:
        return _server(self._call("GET", _path(server_id)))

    def create_tool_server(
        self, name: str, url: str, *, needs_token: bool = False, shared: bool = False
    ) -> ToolServer:
        """`needs_token`: it is called with the token that each user keeps in Papita for it."""
        body = given(name=name, url=url, needs_token=needs_token, shared=shared)
        return _server(self._call("POST", _PATH, body=body))

    def update_tool_server(
        self,
        server_id: str,
        *,
        name: str | None = None,
        url: str | None = None,
        needs_token: bool | None = None,
        shared: bool | None = None,
    ) -> ToolServer:
        """What is not given stays as it is; with a new address the approvals are forgotten."""
        body = given(name=name, url=url, needs_token=needs_token, shared=shared)
        return _server(self._call("PATCH", _path(server_id), body=body))

    def delete_tool_server(self, server_id: str) -> None:
        self._call("DELETE", _path(server_id))

    def tools(self, server_id: str) -> tuple[Tool, ...]:
        """The tools of a server, as they were when it was asked last."""
        found = self._call("GET", f"{_path(server_id)}/tools")
        return tuple(
            Tool(item["name"], item["description"], item["inputSchema"], item["approved"])
            for item in found["tools"]
        )

    def test_tool_server(self, server_id: str) -> int:
        """Connects and reads the tools anew; how many there are."""
        found: int = self._call("POST", f"{_path(server_id)}/test")["tools"]
        return found

    def forget_approvals(self, server_id: str, tool: str | None = None) -> None:
        """The user is asked again before calls: of one tool, or of all."""
        self._call("DELETE", f"{_path(server_id)}/approvals", params={"tool": tool})

    def decide(self, run_id: str, call_id: str, decision: Decision) -> None:
        """About a call that waits for it, by the `id` of its `tool.call`."""
        path = f"/api/runs/{segment(run_id)}/tool-calls/{quote(call_id, safe='')}"
        self._call("POST", path, body={"decision": decision})


_PATH = "/api/tool-servers"


def _path(server_id: str) -> str:
    return f"{_PATH}/{segment(server_id)}"


def _server(item: Mapping[str, Any]) -> ToolServer:
    return ToolServer(
        id=item["id"],
        name=item["name"],
        url=item["url"],
        needs_token=item["needsToken"],
        shared=item["shared"],
        own=item["own"],
        owner=item["owner"],
        tool_count=item["toolCount"],
        created_at=datetime.fromisoformat(item["createdAt"]),
        updated_at=datetime.fromisoformat(item["updatedAt"]),
    )
