"""Calls of tools in pieces: how they arrive, what the model is offered, and what it reads later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from alchat_core.attachments.models import Turn
from alchat_core.db.engine import Database
from alchat_core.db.migrate import migrate
from alchat_core.errors import InvalidInput, NotFound, NotYours, TooManyToolServers
from alchat_core.providers.lines import MAX_CALL_CHARS, MalformedStreamError, StreamReader
from alchat_core.runs.answering import trimmed, with_calls
from alchat_core.tools.connection import checked_url
from alchat_core.tools.models import Tool, ToolServer, offers, replayed
from alchat_core.tools.servers import ToolServerService, check_tools, usable
from tests.papita_core.postgres import Postgres


def part(index: int | None, call_id: str | None, name: str | None, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {"function": {"name": name, "arguments": text}}
    if index is not None:
        found["index"] = index
    if call_id is not None:
        found["id"] = call_id
    return found


def read(*parts: dict[str, Any]) -> list[tuple[str, str, str]]:
    reader = StreamReader()
    for one in parts:
        event = {"choices": [{"delta": {"tool_calls": [one]}}]}
        reader.feed(b"data: " + orjson.dumps(event) + b"\n\n")
        assert reader.take_called()
        assert not reader.take_called()
    return [(call.id, call.name, call.arguments) for call in reader.calls]


AB = [("a", "one", '{"x":1}'), ("b", "two", "{}")]


@pytest.mark.parametrize(
    "parts",
    [
        # OpenAI: the name first, pieces by index.
        [
            part(0, "a", "one", ""),
            part(0, None, None, '{"x"'),
            part(1, "b", "two", ""),
            part(0, None, None, ":1}"),
            part(1, None, None, "{}"),
        ],
        # Whole calls that all have the index 0, or none.
        [part(0, "a", "one", '{"x":1}'), part(0, "b", "two", "{}")],
        [part(None, "a", "one", '{"x":1}'), part(None, "b", "two", "{}")],
        # The id and the name are repeated.
        [part(0, "a", "one", '{"x"'), part(0, "a", "one", ":1}"), part(1, "b", "two", "{}")],
    ],
)
def test_pieces_become_calls(parts: list[dict[str, Any]]) -> None:
    assert read(*parts) == AB


def test_what_is_no_call_is_passed_over_and_too_much_is_refused() -> None:
    reader = StreamReader()
    for nonsense in ("calls", [None], [{"index": 0}], [{"function": "f"}], {"function": {}}):
        event = {"choices": [{"delta": {"content": "", "tool_calls": nonsense}}]}
        reader.feed(b"data: " + orjson.dumps(event) + b"\n\n")
    assert reader.calls == []
    with pytest.raises(MalformedStreamError):
        read(*[part(0, "a", "one", "x" * 500_000)] * (MAX_CALL_CHARS // 500_000 + 1))


def server(name: str, *tools: str) -> ToolServer:
    found = tuple(Tool(one, f"{one} of {name}", {"type": "object"}) for one in tools)
    return ToolServer(name, "ana", "ana", name, "", False, False, found, 1, 1, 1)


def test_every_tool_gets_a_name_of_its_own_that_providers_take() -> None:
    long = "x" * 100
    one, two = server("one", "say", "say it!", long), server("two", "say", f"{long}y")
    approved = {("one", "say"): one.tools[0].digest, ("two", "say"): "of another description"}  # type: ignore[index]
    found = offers([one, two], approved, 128)
    assert list(found) == ["say", "say_it_", "x" * 64, "say_2", "x" * 62 + "_2"]
    assert [(offer.server.id, offer.tool.name) for offer in found.values()][3] == ("two", "say")
    assert [offer.approved for offer in found.values()] == [True, False, False, False, False]
    assert found["say_2"].as_function()["function"]["description"] == "say of two"
    assert len(offers([one, two], {}, 2)) == 2


def call(call_id: str, number: int, at: int, content: str | None = "done") -> dict[str, Any]:
    return {"id": call_id, "round": number, "at": at, "name": "f", "arguments": {}} | {
        "content": content
    }


def test_an_earlier_answer_is_read_again_with_its_calls_where_they_were() -> None:
    calls = (call("a", 1, 3), call("b", 1, 3, None), call("c", 2, 3))
    messages, rest = replayed("Ah! So.", calls)
    assert [message["role"] for message in messages] == [
        "assistant",
        *["tool"] * 2,
        "assistant",
        "tool",
    ]
    assert (messages[0]["content"], messages[3]["content"], rest) == ("Ah!", None, " So.")
    assert [one["id"] for one in messages[0]["tool_calls"]] == ["a", "b"]
    assert messages[0]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert messages[2]["content"].startswith("This call was not finished")

    turns = [Turn("user", "?"), Turn("assistant", "Ah! So.", calls=calls), Turn("user", "And?")]
    prompt = with_calls(turns, [{"role": turn.role, "content": turn.content} for turn in turns])
    assert [message["role"] for message in prompt] == [
        *("user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "user")
    ]
    # What is left out is left out with its results.
    assert trimmed(prompt, keep=1) == prompt[-1:]


@pytest.mark.parametrize("url", ["https://tools.example/mcp", "https://tools.example/mcp/"])
def test_an_address_keeps_its_last_stroke(url: str) -> None:
    assert checked_url(f" {url.replace('tools', 'TOOLS')} ", ()) == url


async def _kept_and_forgotten(url: str) -> None:
    migrate(url)
    database = Database(url)
    servers = ToolServerService(database, limit=2)
    values = {"name": "n", "url": "https://a.example/mcp", "needs_token": False, "shared": False}
    made = await servers.create("ana", "ana", values)
    tool = Tool("say", "Says it.", {"type": "object", "title": "\u0001 \u00e9"})
    await servers.keep_tools(made, [tool])
    await servers.approve("ana", made.id, tool)
    await servers.approve("ana", made.id, tool)
    kept = await servers.get("ana", made.id)
    assert kept.tools == (tool,)
    assert await servers.approved("ana", made.id) == {(made.id, "say"): tool.digest}
    for_ben = await database.read(lambda connection: usable(connection, "ben", [made.id]))
    assert for_ben == ([], {})
    with pytest.raises(NotFound):
        await servers.approve("ben", made.id, tool)
    await servers.change("ana", "ana", made.id, {"shared": True})
    with pytest.raises(NotYours):
        await servers.delete("ben", made.id)
    with pytest.raises(InvalidInput):
        await database.read(lambda connection: check_tools(connection, "ben", ["srv_none"]))
    await servers.create("ana", "ana", values)
    with pytest.raises(TooManyToolServers):
        await servers.create("ana", "ana", values)
    page = await servers.list("ben", limit=1)
    assert [one.id for one in page.items] == [made.id]
    moved = await servers.change("ana", "ana", made.id, {"url": "https://b.example/mcp"})
    assert moved.tools is None
    await servers.keep_tools(made, [tool])  # of the old address
    assert (await servers.get("ana", made.id)).tools is None
    assert await servers.approved("ana", made.id) == {}
    await servers.delete("ana", made.id)
    with pytest.raises(NotFound):
        await servers.get("ana", made.id)
    await database.close()


def test_servers_are_kept_and_forgotten_on_sqlite(tmp_path: Path) -> None:
    asyncio.run(_kept_and_forgotten(f"sqlite:///{tmp_path}/alchat.db"))


def test_servers_are_kept_and_forgotten_on_postgresql(postgres: Postgres) -> None:
    with postgres.database() as url:
        asyncio.run(_kept_and_forgotten(url))
