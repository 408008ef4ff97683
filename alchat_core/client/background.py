"""The background loop of a process: JSON calls to AL-Chat, and the followers of answers.

Whoever calls from a thread waits there for the answer; what is sent and read meanwhile belongs to
the loop. That takes half the CPU of `requests`, and calls and followers share connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from alchat_core.client.errors import AlChatUnreachable

CONNECT_SECONDS: Final = 5.0
# AL-Chat's server closes a connection that nobody has used for five seconds.
KEPT_SECONDS: Final = 4.0

T = TypeVar("T")


class Answer(NamedTuple):
    """What came back, refusals among it: status, all of the body, `Retry-After` if it was sent."""

    status: int
    body: bytes
    retry_after: str | None


class Background:
    """Started with the first call, ended by `close`."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._session: aiohttp.ClientSession | None = None

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of what is done in the loop, for other threads. Raises what `work` does, and
        `AlChatUnreachable` where `close` was faster.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self._running_loop()).result()
        except CancelledError:
            raise AlChatUnreachable from None

    def call_soon(self, call: Callable[..., object], *given: Any) -> None:
        """From any thread."""
        self._running_loop().call_soon_threadsafe(call, *given)

    def call_if_running(self, call: Callable[..., object], *given: Any) -> None:
        """The same, but nothing is started for it."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(call, *given)

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        silence: float,
        again: bool,
    ) -> Answer:
        """In the loop. `body` goes as JSON, `params` that are None stay away; `silence`, in
        seconds, is how long AL-Chat may send nothing. With `again` a connection that was cut is no
        reason to give up: it is tried once more. Raises `AlChatUnreachable`.
        """
        sent = {**headers}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        address = self.address(path, params)
        while True:
            try:
                async with self.session().request(
                    method, address, headers=sent, data=data, timeout=limits, allow_redirects=False
                ) as response:
                    return Answer(
                        response.status, await response.read(), response.headers.get("Retry-After")
                    )
            except TimeoutError:
                raise AlChatUnreachable from None
            except (aiohttp.ClientError, OSError):
                if not again:
                    raise AlChatUnreachable from None
                again = False

    def address(self, path: str, params: Mapping[str, Any] | None = None) -> URL:
        """Of a path whose segments need no quoting any more."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        query = f"?{urlencode(given)}" if given else ""
        return URL(f"{self._base_url}{path}{query}", encoded=True)

    def session(self) -> aiohttp.ClientSession:
        """In the loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    def close(self) -> None:
        """Ends all that is going on."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5.0)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = _new_loop()
                self._thread = threading.Thread(
                    target=self._serve, args=(self._loop,), name="alchat-client", daemon=True
                )
                self._thread.start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            if self._session is not None:
                loop.run_until_complete(self._session.close())
                self._session = None
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    """The faster one, where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
