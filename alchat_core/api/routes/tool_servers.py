"""Tool servers (MCP), one's own and those that others share, and their tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from alchat_core.api.deps import Services, ServicesOf, UserOf, json
from alchat_core.api.routes.conversations import NO_NULL
from alchat_core.api.tool_schemas import (
    ChangeToolServer,
    NewToolServer,
    ToolList,
    ToolServerBody,
    ToolServerPage,
    ToolServerTest,
)
from alchat_core.auth import User
from alchat_core.errors import InvalidInput, ToolServerFailed
from alchat_core.tools.connection import ToolError, checked_url
from alchat_core.tools.models import Tool, ToolServer

router = APIRouter(prefix="/api/tool-servers", tags=["tools"])


@router.get("", response_model=ToolServerPage, summary="List your own and the shared ones")
async def list_tool_servers(
    user: UserOf,
    services: ServicesOf,
    cursor: Annotated[str | None, Query(max_length=40, pattern=NO_NULL)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    page = await services.toolbox.servers.list(user.id, cursor=cursor, limit=limit)
    return json(
        {
            "toolServers": [one.as_json(user.id) for one in page.items],
            "nextCursor": page.next_cursor,
        }
    )


@router.post("", response_model=ToolServerBody, status_code=201, summary="Add")
async def create_tool_server(body: NewToolServer, user: UserOf, services: ServicesOf) -> Response:
    values = {**body.model_dump(), "url": _url(services, body.url)}
    made = await services.toolbox.servers.create(user.id, user.username, values)
    return json(made.as_json(user.id), 201, {"Location": f"/api/tool-servers/{made.id}"})


@router.get("/{server_id}", response_model=ToolServerBody, summary="Read")
async def get_tool_server(server_id: str, user: UserOf, services: ServicesOf) -> Response:
    return json((await services.toolbox.servers.get(user.id, server_id)).as_json(user.id))


@router.patch("/{server_id}", response_model=ToolServerBody, summary="Change or share")
async def update_tool_server(
    server_id: str, body: ChangeToolServer, user: UserOf, services: ServicesOf
) -> Response:
    changes: dict[str, Any] = body.model_dump(exclude_unset=True)
    if any(value is None for value in changes.values()):
        raise InvalidInput("Leave a field out to keep it as it is; none can be null.")
    if body.url is not None:
        changes["url"] = _url(services, body.url)
    changed = await services.toolbox.servers.change(user.id, user.username, server_id, changes)
    return json(changed.as_json(user.id))


@router.delete("/{server_id}", status_code=204, summary="Delete")
async def delete_tool_server(server_id: str, user: UserOf, services: ServicesOf) -> Response:
    await services.toolbox.servers.delete(user.id, server_id)
    return Response(status_code=204)


@router.get("/{server_id}/tools", response_model=ToolList, summary="Its tools")
async def list_tools(server_id: str, user: UserOf, services: ServicesOf) -> Response:
    server = await services.toolbox.servers.get(user.id, server_id)
    tools = server.tools
    if tools is None:
        tools = await _listed(services, user, server)
    approved = await services.toolbox.servers.approved(user.id, server_id)
    return json({"tools": _shown(server, tools, approved)})


@router.post(
    "/{server_id}/test", response_model=ToolServerTest, summary="Connect, and read its tools anew"
)
async def test_tool_server(server_id: str, user: UserOf, services: ServicesOf) -> Response:
    server = await services.toolbox.servers.get(user.id, server_id)
    return json({"tools": len(await _listed(services, user, server))})


@router.delete("/{server_id}/approvals", status_code=204, summary="Be asked again before calls")
async def delete_approvals(
    server_id: str,
    user: UserOf,
    services: ServicesOf,
    tool: Annotated[
        str | None, Query(max_length=200, pattern=NO_NULL, description="Left out: all of them.")
    ] = None,
) -> Response:
    await services.toolbox.servers.ask_again(user.id, server_id, tool)
    return Response(status_code=204)


async def _listed(services: Services, user: User, server: ToolServer) -> tuple[Tool, ...]:
    try:
        return await services.toolbox.listed(user, server)
    except ToolError as error:
        raise ToolServerFailed(str(error)) from None


def _shown(
    server: ToolServer, tools: Sequence[Tool], approved: dict[tuple[str, str], str]
) -> list[dict[str, Any]]:
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "inputSchema": tool.schema,
            "approved": approved.get((server.id, tool.name)) == tool.digest,
        }
        for tool in tools
    ]


def _url(services: Services, url: str) -> str:
    """Raises `InvalidInput`."""
    try:
        return checked_url(url, services.settings.papita_provider_allowlist)
    except ValueError as error:
        raise InvalidInput(f"url: {error}.") from None
