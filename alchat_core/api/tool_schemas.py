"""The shapes of tool servers and their tools on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StringConstraints

from alchat_core.api.schemas import Name, _Wire

Url = Annotated[str, StringConstraints(min_length=1, max_length=2048, strip_whitespace=True)]


class NewToolServer(_Wire):
    name: Name
    url: Url = Field(description="Of its MCP endpoint, by streamable HTTP.")
    needs_token: StrictBool = Field(
        False,
        description="Whether it is called with a token: each user's own credential of the type"
        " mcp-server for this address, borrowed from Papita.",
    )
    shared: StrictBool = Field(False, description="Whether every user of the portal may use it.")


class ChangeToolServer(_Wire):
    name: Name | None = None
    url: Url | None = Field(None, description="Its tools and approvals are forgotten with it.")
    needs_token: StrictBool | None = None
    shared: StrictBool | None = None


class ToolServerBody(_Wire):
    id: str
    name: str
    url: str
    needs_token: bool
    shared: bool
    own: bool = Field(description="Whether it is yours, so that you can change it.")
    owner: str = Field(description="The user name of its owner.")
    tool_count: int | None = Field(description="null: it was not asked for its tools yet.")
    created_at: str
    updated_at: str


class ToolServerPage(_Wire):
    tool_servers: list[ToolServerBody]
    next_cursor: str | None


class ToolBody(_Wire):
    name: str
    description: str
    input_schema: dict[str, Any] = Field(description="The JSON schema of its arguments.")
    approved: bool = Field(description="Whether you let it be called unasked.")


class ToolList(_Wire):
    tools: list[ToolBody]


class ToolServerTest(_Wire):
    tools: int = Field(description="How many it offers now.")


class DecisionBody(_Wire):
    decision: Literal["once", "always", "deny"] = Field(
        description="`always` is kept for this tool of this server, until you take it back or the"
        " tool describes itself otherwise."
    )
