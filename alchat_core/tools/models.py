"""Tool servers, tools and calls as values without I/O, and their form on the wire.

A call is a plain dictionary, since it is stored, shown and sent again as it is: `id`, `round` (from
1), `at` (how many characters of the answer were there before it), `serverId`, `server`, `tool`,
`name` (what the model calls it), `arguments` (an object, or the text that was not one), `content`
(None until there is a result), `truncated`, `isError`, `seconds`, and `extra` where the provider
wants something back with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from alchat_core.ids import iso

Call = dict[str, Any]

NOT_FINISHED = "This call was not finished: the answer was stopped before."
# What providers take as the name of a function.
_NAME = re.compile(r"[^a-zA-Z0-9_-]+")
MAX_NAME = 64
NONE: Mapping[str, Sequence[Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Tool:
    """`schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]

    @property
    def digest(self) -> str:
        """Changes with whatever the tool says about itself."""
        whole = [self.name, self.description, self.schema]
        return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def stored(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "schema": self.schema}


@dataclass(frozen=True, slots=True)
class ToolServer:
    """`tools` is None until they were listed once."""

    id: str
    owner: str
    owner_name: str
    name: str
    url: str
    needs_token: bool
    shared: bool
    tools: tuple[Tool, ...] | None
    tools_at: int | None
    created_at: int
    updated_at: int

    def as_json(self, reader: str) -> dict[str, Any]:
        """As `reader` sees it."""
        return {
            "id": self.id,
            "name": self.name,
            "url": self.url,
            "needsToken": self.needs_token,
            "shared": self.shared,
            "own": self.owner == reader,
            "owner": self.owner_name,
            "toolCount": None if self.tools is None else len(self.tools),
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
        }


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool as a model gets to know it: under a name that is its own among all that are offered.

    `approved`: it may be called unasked.
    """

    name: str
    server: ToolServer
    tool: Tool
    approved: bool

    def as_function(self) -> dict[str, Any]:
        """The tool as chat completions want it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.tool.description,
                "parameters": self.tool.schema,
            },
        }


def offers(
    servers: Iterable[ToolServer],
    approved: Mapping[tuple[str, str], str],
    most: int,
    fresh: Mapping[str, Sequence[Tool]] = NONE,
) -> dict[str, Offer]:
    """The first `most` tools of the servers by the name that the model gets.

    `approved` is the digest of each (server id, tool) that may be called unasked; `fresh` are tools
    by the id of their server where none are kept.
    """
    found: dict[str, Offer] = {}
    for server in servers:
        for tool in server.tools or fresh.get(server.id, ()):
            if len(found) == most:
                return found
            name = _free_name(tool.name, found)
            known = approved.get((server.id, tool.name))
            found[name] = Offer(name, server, tool, known == tool.digest)
    return found


def _free_name(wanted: str, taken: dict[str, Offer]) -> str:
    plain = _NAME.sub("_", wanted)[:MAX_NAME] or "tool"
    name, number = plain, 2
    while name in taken:
        ending = f"_{number}"
        name = plain[: MAX_NAME - len(ending)] + ending
        number += 1
    return name


def asked_and_answered(text: str, calls: Sequence[Call]) -> list[dict[str, Any]]:
    """One round as a provider reads it: what the model said and called, and the results."""
    asked = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": _written(call["arguments"])},
            **({"extra_content": call["extra"]} if call.get("extra") else {}),
        }
        for call in calls
    ]
    answered = [
        {
            "role": "tool",
            "tool_call_id": call["id"],
            "content": NOT_FINISHED if call["content"] is None else call["content"],
        }
        for call in calls
    ]
    return [{"role": "assistant", "content": text or None, "tool_calls": asked}, *answered]


def replayed(content: str, calls: Sequence[Call]) -> tuple[list[dict[str, Any]], str]:
    """An earlier answer up to its last result, and the text that comes after that."""
    rounds: dict[int, list[Call]] = {}
    for call in calls:
        rounds.setdefault(call["round"], []).append(call)
    found: list[dict[str, Any]] = []
    start = 0
    for some in rounds.values():
        found += asked_and_answered(content[start : some[0]["at"]], some)
        start = some[0]["at"]
    return found, content[start:]


def _written(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
