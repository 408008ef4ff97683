"""The tools of one answer: what the model is offered, and one round of calls after the other.

Calls of one round run together. Each is an event when the model asks for it and another one when
there is a result, and is kept with the message before the provider is asked again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from sqlalchemy import bindparam, update

from alchat_core import telemetry
from alchat_core.auth import User
from alchat_core.credential_manager import CredentialManager, Loan
from alchat_core.db.engine import Database
from alchat_core.db.tables import messages
from alchat_core.errors import RunError
from alchat_core.providers.guard import Guard
from alchat_core.providers.lines import Called
from alchat_core.settings import Settings
from alchat_core.tools.approvals import Approvals
from alchat_core.tools.connection import Connection, Result, ToolError, loaded
from alchat_core.tools.models import Call, Offer, Tool, ToolServer, asked_and_answered, offers
from alchat_core.tools.servers import ToolServerService, usable

CALL = "tool.call"
DECISION = "tool.decision"
RESULT = "tool.result"
UNAVAILABLE = "tool.unavailable"

MAX_OFFERED = 128
LISTING_SECONDS = 10.0
LISTING_AT_ONCE = 16
MAX_EXTRA = 32 * 1024
UNLENT = (
    "Papita has no token for this tool server that AL-Chat can use. Add a credential of the type"
    " MCP server with exactly this address under Credentials, then try again."
)
DENIED = "The user does not allow this call. Do not make it again; go on without it, or ask."
UNKNOWN = "There is no tool of this name."
NOT_JSON = "The arguments are not a JSON object. Call the tool again with one."
TOO_MANY = "Too many calls at once: this one was not made. Make fewer at a time."
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEEP = (
    update(messages)
    .where(messages.c.id == bindparam("message"))
    .values(tool_calls=bindparam("calls", type_=messages.c.tool_calls.type))
)

Note = Callable[[str, dict[str, Any]], None]
Watch = Callable[[str, Loan], None]


class Answered(Protocol):
    """What a round needs to know of the run that it belongs to."""

    id: str
    user: User
    message_id: str
    calls: list[Call]


@dataclass(slots=True)
class _Connected:
    """A connection that is being opened, or is open."""

    opening: asyncio.Task[Connection]


class Toolbox:
    """Built once per process; `stop` before the end."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        credentials: CredentialManager,
        servers: ToolServerService,
    ) -> None:
        self.settings = settings
        self.database = database
        self.servers = servers
        self.approvals = Approvals(servers, settings.alchat_tool_approval_seconds)
        self._credentials = credentials
        self._guard = Guard(settings.papita_provider_allowlist)
        self._listing = asyncio.Semaphore(LISTING_AT_ONCE)
        self._closing: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        if self._closing:
            await asyncio.wait(self._closing, timeout=1.0)
        for task in self._closing:
            task.cancel()

    async def connect(
        self,
        user: User,
        server: ToolServer,
        run_id: str | None = None,
        watch: Watch | None = None,
        seconds: float | None = None,
    ) -> Connection:
        """A connection with the user's token, where the server needs one. Raises `ToolError`."""
        token = None
        if server.needs_token:
            try:
                loan = await self._credentials.borrow_for(user, server.url, run_id)
            except RunError as error:
                missing = error.code == "credential-missing"
                raise ToolError(UNLENT if missing else error.message) from None
            if watch is not None:
                watch(server.id, loan)
            token = loan.api_key
        connection = Connection(
            self._guard,
            server.url,
            token,
            seconds=seconds or self.settings.alchat_tool_seconds,
            max_bytes=self.settings.alchat_tool_answer_bytes,
        )
        await connection.open()
        return connection

    def close(self, connection: Connection) -> None:
        """Ends it in the background."""
        task = connection.close()
        if task is not None:
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def listed(self, user: User, server: ToolServer) -> tuple[Tool, ...]:
        """What the server offers now; kept, if it is the user's own. Raises `ToolError`."""
        seconds = min(LISTING_SECONDS, self.settings.alchat_tool_seconds)
        async with self._listing:
            connection = await self.connect(user, server, seconds=seconds)
            try:
                found = await connection.tools()
            finally:
                self.close(connection)
        if server.owner == user.id:
            await self.servers.keep_tools(server, found)
        return found

    async def open(
        self, live: Answered, server_ids: Sequence[str], note: Note, watch: Watch
    ) -> tuple[Tools | None, list[dict[str, Any]]]:
        """The tools of a run, None where there are none; and servers that did not tell theirs."""
        servers, approved = await self.database.read(
            lambda connection: usable(connection, live.user.id, server_ids)
        )
        unknown = [server for server in servers if server.tools is None]
        listed = await asyncio.gather(
            *(self.listed(live.user, server) for server in unknown), return_exceptions=True
        )
        fresh: dict[str, tuple[Tool, ...]] = {}
        failed = []
        for server, found in zip(unknown, listed, strict=True):
            if isinstance(found, ToolError):
                failed.append({"serverId": server.id, "server": server.name, "message": str(found)})
            elif isinstance(found, BaseException):
                raise found
            else:
                fresh[server.id] = found
        offered = offers(servers, approved, MAX_OFFERED, fresh)
        return (Tools(self, live, offered, note, watch) if offered else None), failed


class Tools:
    """The tools of one run; `close` at its end."""

    def __init__(
        self, box: Toolbox, live: Answered, offered: dict[str, Offer], note: Note, watch: Watch
    ) -> None:
        self._box = box
        self._live = live
        self._offered = offered
        self._note = note
        self._watch = watch
        self._connected: dict[str, _Connected] = {}
        self._rounds = 0

    def request(self) -> dict[str, Any]:
        """What goes into the request to the provider. After the last round no more is called."""
        found: dict[str, Any] = {"tools": [one.as_function() for one in self._offered.values()]}
        if self._rounds >= self._box.settings.alchat_tool_rounds:
            found["tool_choice"] = "none"
        return found

    async def play(self, called: Sequence[Called], text: str, at: int) -> list[dict[str, Any]]:
        """Makes the calls; what the provider is to read next.

        `text` is what the model said in this round, `at` the length of the answer so far. Raises
        `RunError` where the model calls on and on, or the user does not decide in time.
        """
        self._rounds += 1
        if self._rounds > self._box.settings.alchat_tool_rounds:
            raise RunError("too-many-tool-rounds")
        number = max((call["round"] for call in self._live.calls), default=0) + 1
        calls = []
        for one in called:
            call = self._call(one, number, at)
            calls.append(call)
            self._live.calls.append(call)
        waiting = self._announce(calls)
        await self._keep()
        tasks = [asyncio.create_task(self._finish(call, call["id"] in waiting)) for call in calls]
        try:
            # The first that fails, since nobody decided in time, ends them all.
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)
            self._box.approvals.forget(self._live.id)
        return asked_and_answered(text, calls)

    def close(self) -> None:
        for one in self._connected.values():
            one.opening.cancel()
            if one.opening.done() and _usable(one.opening):
                self._box.close(one.opening.result())

    def _call(self, one: Called, number: int, at: int) -> Call:
        offer = self._offered.get(one.name)
        taken = {call["id"] for call in self._live.calls}
        named = one.id if _SAFE_ID.fullmatch(one.id) and one.id not in taken else ""
        call: Call = {
            "id": named or f"call_{len(taken) + 1}",
            "round": number,
            "at": at,
            "serverId": offer.server.id if offer else None,
            "server": offer.server.name if offer else None,
            "tool": offer.tool.name if offer else one.name,
            "name": one.name,
            "arguments": _arguments(one.arguments),
            "content": None,
            "truncated": False,
            "isError": False,
            "seconds": None,
        }
        if one.extra is not None and len(orjson.dumps(one.extra)) <= MAX_EXTRA:
            call["extra"] = one.extra
        return call

    def _announce(self, calls: Sequence[Call]) -> set[str]:
        """Tells followers of the calls; the ids of those that wait for approval."""
        waiting = set()
        for call in calls:
            offer = self._offered.get(call["name"])
            asks = offer is not None and not offer.approved and self._why_not(call, calls) is None
            if asks and offer is not None:
                self._box.approvals.expect(self._live.id, call["id"], offer)
                waiting.add(call["id"])
            self._note(
                CALL,
                {
                    **{name: call[name] for name in ("id", "serverId", "server", "tool")},
                    "arguments": call["arguments"],
                    "approval": "needed" if asks else "given",
                },
            )
        return waiting

    def _why_not(self, call: Call, calls: Sequence[Call]) -> str | None:
        """What the model is told of a call that is not made."""
        if call["name"] not in self._offered:
            return UNKNOWN
        if not isinstance(call["arguments"], dict):
            return NOT_JSON
        if calls.index(call) >= self._box.settings.alchat_tool_calls_per_round:
            return TOO_MANY
        return None

    async def _finish(self, call: Call, asks: bool) -> None:
        begin = time.monotonic()
        calls = [one for one in self._live.calls if one["round"] == call["round"]]
        why_not = self._why_not(call, calls)
        if asks:
            decided = await self._box.approvals.wait(self._live.id, call["id"])
            # The token of the message may have run out while the user thought about it.
            self._live.user = decided.user
            self._note(DECISION, {"id": call["id"], "decision": decided.decision})
            begin = time.monotonic()
            why_not = DENIED if decided.decision == "deny" else None
        if why_not is not None:
            result = Result(why_not, is_error=True)
        else:
            try:
                with telemetry.span(f"execute_tool {call['name']}", _about(call)) as span:
                    result = await self._made(call, self._offered[call["name"]])
                    if result.is_error:
                        span.fail("tool_error")
            except ToolError as error:
                result = Result(str(error), is_error=True)
        limit = self._box.settings.alchat_tool_result_bytes
        content = _cut(result.content, limit)
        call.update(
            content=content,
            truncated=len(content) < len(result.content),
            isError=result.is_error,
            seconds=round(time.monotonic() - begin, 3),
        )
        names = ("id", "content", "truncated", "isError", "seconds")
        self._note(RESULT, {name: call[name] for name in names})
        await self._keep()

    async def _made(self, call: Call, offer: Offer) -> Result:
        """Raises `ToolError`."""
        seconds = self._box.settings.alchat_tool_seconds
        await loaded()
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connection(offer.server)
                return await connection.call(offer.tool.name, call["arguments"])
        except TimeoutError:
            raise ToolError(
                f"The tool did not answer within {seconds:g} seconds. Go on without it."
            ) from None

    async def _connection(self, server: ToolServer) -> Connection:
        """Calls of one server share one; the next call tries again where that failed."""
        known = self._connected.get(server.id)
        if known is None or (known.opening.done() and not _usable(known.opening)):
            opening = asyncio.create_task(
                self._box.connect(self._live.user, server, self._live.id, self._watch)
            )
            known = self._connected[server.id] = _Connected(opening)
        return await asyncio.shield(known.opening)

    async def _keep(self) -> None:
        given = {"message": self._live.message_id, "calls": self._live.calls}
        await self._box.database.write(lambda connection: connection.execute(_KEEP, given))


def _usable(opened: asyncio.Task[Connection]) -> bool:
    return not opened.cancelled() and opened.exception() is None and opened.result().alive


def _arguments(text: str) -> Any:
    """The object that the model wrote, or what it wrote instead. Nothing at all is no argument."""
    if not text.strip():
        return {}
    text = text.replace("\x00", "\ufffd")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return found if isinstance(found, dict) else text


def _about(call: Call) -> dict[str, str | None]:
    """A call as attributes of a span."""
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call["tool"],
        "gen_ai.tool.call.id": call["id"],
        "alchat.tool_server.id": call["serverId"],
    }


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8."""
    raw = text.encode()
    return text if len(raw) <= limit else raw[:limit].decode("utf-8", "ignore")
