"""One connection to one MCP server over streamable HTTP, by the official SDK.

The SDK is imported when the first connection is made, in a thread, since that takes a second. A
connection lives in a task of its own, because the SDK wants to be left where it was entered.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson

from alchat_core.errors import RunError
from alchat_core.providers.guard import AddressRefusedError, Guard
from alchat_core.providers.http import guarded_client
from alchat_core.secret import Secret
from alchat_core.settings import origin_of
from alchat_core.tools.models import Tool

MAX_PAGES = 20
MAX_TOOLS = 200
MAX_TOOL_NAME = 200
MAX_DESCRIPTION = 4000  # characters
MAX_SCHEMA = 32 * 1024  # bytes
CLOSING_SECONDS = 3.0

UNREACHABLE = "The tool server could not be reached. Check its address, or try again later."
TOO_SLOW = "The tool server did not answer in time. Try again, or ask for less."
TOO_LARGE = "The tool server sent more than AL-Chat takes. Ask for less."
REJECTED = (
    "The tool server does not accept the token, or wants one. Check the server's setting and its"
    " credential in Papita."
)
REDIRECTED = (
    "The tool server sends callers on to another address, which AL-Chat does not follow. Enter the"
    " address that it really has."
)
NOT_SPOKEN = (
    "What answers at this address does not speak MCP over streamable HTTP as AL-Chat does."
    " Check the address."
)
FAULTY = "The tool server reported a fault of its own. Try again later."
FORBIDDEN = (
    "The address of the tool server is not on the public internet. An administrator can allow it"
    " with PAPITA_PROVIDER_ALLOWLIST."
)


class ToolError(Exception):
    """Why a server or a tool could not be used. `str()` is a sentence that a user may read."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool said, as text."""

    content: str
    is_error: bool


class _TooLargeError(httpx2.StreamError):
    """A response is larger than is taken."""

    def __init__(self) -> None:
        super().__init__("the response is too large")


def checked_url(url: str, allowed: Iterable[str]) -> str:
    """The URL in one spelling. Raises ValueError with what is wrong about it.

    `allowed` are origins that an administrator allows although they are local or not encrypted.
    """
    url = url.strip()
    origin = origin_of(url)
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ValueError("the address has no question mark and no #")
    if parts.scheme.lower() == "http" and origin not in frozenset(allowed):
        raise ValueError(
            "the address must begin with https://, unless an administrator allows it with"
            " PAPITA_PROVIDER_ALLOWLIST"
        )
    try:
        Guard(allowed).check(url)
    except RunError:
        raise ValueError(
            "the address cannot be used, or is not on the public internet, which an administrator"
            " can allow with PAPITA_PROVIDER_ALLOWLIST"
        ) from None
    return origin + parts.path


_sdk: Any = None


async def loaded() -> Any:
    """The SDK; the first time takes a second and belongs to no time limit."""
    global _sdk
    if _sdk is None:
        _sdk = await asyncio.to_thread(importlib.import_module, "mcp")
    return _sdk


class Connection:
    """`open` it, use it from any task, `close` it. Every method raises `ToolError`.

    `max_bytes` is how large one response may be; times are seconds. The token goes nowhere else.
    """

    def __init__(
        self, guard: Guard, url: str, token: Secret | None, *, seconds: float, max_bytes: int
    ) -> None:
        self._guard = guard
        self._url = url
        self._token = token
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._status = 0
        self._too_large = False
        self._closing = asyncio.Event()
        self._client: Any = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await loaded()
        ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(ready), name="tool-server")
        try:
            self._guard.check(self._url)
            async with asyncio.timeout(self._seconds):
                self._client = await ready
        except RunError:
            raise ToolError(FORBIDDEN) from None
        except TimeoutError:
            raise ToolError(TOO_SLOW) from None
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises, in groups
            raise self._explained(error) from None
        finally:
            if self._client is None:
                self._task.cancel()

    async def tools(self) -> tuple[Tool, ...]:
        """All tools of the server, but those that a model could not be told of."""
        found: dict[str, Tool] = {}
        try:
            async with asyncio.timeout(self._seconds):
                cursor: str | None = None
                for _ in range(MAX_PAGES):
                    page = await self._client.list_tools(cursor=cursor, cache_mode="bypass")
                    for item in page.tools:
                        tool = _tool(item)
                        if tool is not None and len(found) < MAX_TOOLS:
                            found.setdefault(tool.name, tool)
                    cursor = page.next_cursor
                    if cursor is None:
                        break
        except TimeoutError:
            raise ToolError(TOO_SLOW) from None
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises
            raise self._explained(error) from None
        return tuple(found.values())

    async def call(self, tool: str, arguments: dict[str, Any]) -> Result:
        """A tool's own error is a result. Being cancelled tells the server, too."""
        from mcp import MCPError

        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._client.call_tool(tool, arguments)
        except TimeoutError:
            raise ToolError(TOO_SLOW) from None
        except MCPError as error:
            if self._too_large or self._no_answer(error.code):
                raise self._explained(error) from None
            # What the server has to say about the call is for the model to read.
            return Result(_storable(error.message), is_error=True)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises
            raise self._explained(error) from None
        return Result(_text_of(answer), bool(answer.is_error))

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    def close(self) -> asyncio.Task[None] | None:
        """Begins to close it; the task that ends when that is done, within some seconds."""
        self._closing.set()
        if self._task is None or self._task.done():
            return None
        return asyncio.create_task(_ended(self._task), name="tool-server-close")

    async def _live(self, ready: asyncio.Future[Any]) -> None:
        try:
            mcp = await loaded()
            streamable = importlib.import_module("mcp.client.streamable_http")
            headers = {} if self._token is None else _bearer(self._token)
            async with AsyncExitStack() as stack:
                http = await stack.enter_async_context(
                    guarded_client(
                        self._guard,
                        headers=headers,
                        timeout=httpx2.Timeout(self._seconds + 5.0, pool=None),
                        on_response=self._watch,
                    )
                )
                transport = streamable.streamable_http_client(
                    self._url, http_client=http, max_sse_event_size=self._max_bytes
                )
                client = await stack.enter_async_context(
                    mcp.Client(
                        transport,
                        client_info=mcp.types.Implementation(name="al-chat", version="1"),
                        read_timeout_seconds=self._seconds,
                    )
                )
                if not ready.done():
                    ready.set_result(client)
                await self._closing.wait()
        except BaseException as error:
            if not ready.done():
                if isinstance(error, asyncio.CancelledError):
                    ready.cancel()
                else:
                    ready.set_exception(error)
                    # Whoever waited for it may have given up.
                    ready.exception()
            if isinstance(error, asyncio.CancelledError):
                raise
            # Whoever is calling meanwhile gets an error of its own.

    async def _watch(self, response: httpx2.Response) -> None:
        self._status = response.status_code
        # Nothing but plain bytes was asked for; what is packed could unpack to anything.
        response.headers.pop("content-encoding", None)
        response.stream = _Capped(response.stream, self._max_bytes, self._was_too_large)

    def _no_answer(self, code: int) -> bool:
        """Whether an error is none that the server gave as its answer to a call."""
        status = self._status
        return (
            code in _OF_THE_TRANSPORT
            or status in (401, 403)
            or 300 <= status < 400
            or status >= 500
            or (status >= 400 and code == _INTERNAL_ERROR)
        )

    def _was_too_large(self) -> None:
        self._too_large = True

    def _explained(self, error: BaseException) -> ToolError:
        """Nothing that the server sent is passed on."""
        causes = _all(error)
        if self._too_large or any(isinstance(one, _TooLargeError) for one in causes):
            return ToolError(TOO_LARGE)
        if any(isinstance(one, AddressRefusedError) for one in causes):
            return ToolError(FORBIDDEN)
        if self._status in (401, 403):
            return ToolError(REJECTED)
        if 300 <= self._status < 400:
            return ToolError(REDIRECTED)
        if self._status >= 500:
            return ToolError(FAULTY)
        if any(isinstance(one, TimeoutError | httpx2.TimeoutException) for one in causes):
            return ToolError(TOO_SLOW)
        if any(isinstance(one, OSError | httpx2.TransportError) for one in causes):
            return ToolError(UNREACHABLE)
        return ToolError(NOT_SPOKEN)


class _Capped(httpx2.AsyncByteStream):
    """A body of which no more than `room` bytes are read."""

    def __init__(self, inner: Any, room: int, exceeded: Any) -> None:
        self._inner = inner
        self._room = room
        self._exceeded = exceeded

    async def __aiter__(self) -> AsyncIterator[bytes]:
        room = self._room
        async for chunk in self._inner:
            room -= len(chunk)
            if room < 0:
                self._exceeded()
                raise _TooLargeError
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


# What the SDK itself says in place of a server: the connection was closed, the request timed out,
# nothing readable came.
_OF_THE_TRANSPORT = frozenset({-32000, -32001, -32700})
_INTERNAL_ERROR = -32603


def _bearer(token: Secret) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.reveal()}"}


async def _ended(task: asyncio.Task[None]) -> None:
    done, _ = await asyncio.wait([task], timeout=CLOSING_SECONDS)
    if not done:
        task.cancel()
        await asyncio.wait([task], timeout=CLOSING_SECONDS)


def _tool(item: Any) -> Tool | None:
    """A tool as it is kept; None for one whose schema or name is too long."""
    try:
        schema = orjson.loads(orjson.dumps(item.input_schema))
        if len(orjson.dumps(schema)) > MAX_SCHEMA or not 1 <= len(item.name) <= MAX_TOOL_NAME:
            return None
    except (TypeError, ValueError):
        return None
    return Tool(
        _storable(item.name), _storable(item.description or "")[:MAX_DESCRIPTION], _plain(schema)
    )


def _plain(value: Any) -> Any:
    """JSON without null characters, which PostgreSQL cannot store."""
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_storable(name): _plain(item) for name, item in value.items()}
    return value


def _storable(text: str) -> str:
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _text_of(answer: Any) -> str:
    """The text of a result; of other content a note that it was there."""
    found = []
    for block in answer.content:
        kind = block.type
        if kind == "text":
            found.append(block.text)
        elif kind == "resource":
            text = getattr(block.resource, "text", None)
            found.append(f"[file {block.resource.uri}]" if text is None else text)
        elif kind == "resource_link":
            found.append(f"[{block.name}: {block.uri}]")
        else:
            found.append(f"[{kind}: {block.mime_type}, which cannot be shown here]")
    if not found and answer.structured_content is not None:
        found.append(orjson.dumps(answer.structured_content, default=str).decode())
    return _storable("\n".join(found))


def _all(error: BaseException) -> list[BaseException]:
    """The exception, its causes and what is in its groups."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left and len(found) < 50:
        one = left.pop()
        if one is None:
            continue
        found.append(one)
        left += [one.__cause__, one.__context__]
        inner = getattr(one, "os_error", None)
        if isinstance(inner, BaseException):
            left.append(inner)
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
    return found
