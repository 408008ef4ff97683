"""Followers of runs: one background loop serves all of a process.

It connects again by itself from the last event seen, and waits for whoever reads slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import aiohttp

from alchat_core.client.errors import AlChatError, AlChatProblem, AlChatUnreachable, problem_of
from alchat_core.client.reading import event_of, object_of
from alchat_core.client.values import Event

MAX_WAITING_EVENTS: Final = 1000
SILENCE_SECONDS: Final = 25.0
LONGEST_PAUSE_SECONDS: Final = 2.0
GIVE_UP_SECONDS: Final = 60.0


class Follower:
    """What has arrived waits here. One thread reads; `close()` may come from any."""

    def __init__(self, owner: Followers, run_id: str, after: int, first_token: str) -> None:
        self._owner = owner
        self.run_id = run_id
        self.last_id = after
        self._first_token: str | None = first_token
        self._condition = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._ended = False
        self._finished = False
        self._error: AlChatError | None = None
        self._connected = False
        # Whoever rests is not woken for what it lets gather.
        self._resting = False
        # Seconds between two looks at what has arrived: whoever draws seldom needs no more.
        self.gap = 0.0
        self._room: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def finished(self) -> bool:
        """True once the event that ends the run has been handed out, or nothing more can come."""
        return self._finished

    @property
    def connected(self) -> bool:
        """Whether the stream is open right now; while it is not, it is being opened again."""
        return self._connected

    def wait(self, timeout: float = 0.25) -> list[Event]:
        """New events, at once if there are any; [] after `timeout` seconds.

        Raises `AlChatError` if the run cannot be followed (any more).
        """
        with self._condition:
            if not self._waiting and not self._ended:
                self._condition.wait(timeout)
            events = list(self._waiting)
            self._waiting.clear()
            if self._ended and (not events or events[-1].terminal):
                self._finished = True
            error = self._error if self._ended and not events else None
        if error is not None:
            raise error
        if len(events) >= MAX_WAITING_EVENTS // 2:
            self._owner.make_room(self)
        return events

    def rest(self, seconds: float) -> None:
        """Lets events gather for `seconds`, or until the one that ends the run is there."""
        with self._condition:
            self._resting = True
            try:
                self._condition.wait_for(self._nothing_more, seconds)
            finally:
                self._resting = False

    def _nothing_more(self) -> bool:
        return self._ended or bool(self._waiting and self._waiting[-1].terminal)

    def close(self) -> None:
        self._owner.end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _put(self, events: list[Event]) -> bool:
        """From the loop; False if the reader is too far behind to get more now."""
        with self._condition:
            self._waiting.extend(events)
            self.last_id = events[-1].id
            if not self._resting or events[-1].terminal:
                self._condition.notify_all()
            return len(self._waiting) < MAX_WAITING_EVENTS

    def _end(self, error: AlChatError | None = None) -> None:
        with self._condition:
            self._ended = True
            self._error = error
            self._condition.notify_all()


class Followers:
    """The background loop, started with the first follower."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._session: aiohttp.ClientSession | None = None

    def follow(self, run_id: str, after: int, token_source: Callable[[], str]) -> Follower:
        follower = Follower(self, run_id, after, token_source())
        loop = self._running_loop()
        loop.call_soon_threadsafe(self._begin, follower, token_source)
        return follower

    def end(self, follower: Follower) -> None:
        follower._end()
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_cancel, follower)

    def make_room(self, follower: Follower) -> None:
        loop = self._loop
        if loop is not None and follower._room is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(follower._room.set)

    def close(self) -> None:
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
                    target=self._serve, args=(self._loop,), name="alchat-followers", daemon=True
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

    def _begin(self, follower: Follower, token_source: Callable[[], str]) -> None:
        follower._room = asyncio.Event()
        follower._task = asyncio.ensure_future(self._follow(follower, token_source))

    async def _follow(self, follower: Follower, token_source: Callable[[], str]) -> None:
        error: AlChatError | None = AlChatUnreachable()
        pause = 0.05
        down_since: float | None = None
        try:
            while True:
                before = follower.last_id
                try:
                    if await self._once(follower, token_source):
                        error = None
                        return
                except AlChatProblem as problem:
                    if problem.status not in (429, 502, 503, 504):
                        error = problem
                        return
                except (aiohttp.ClientError, TimeoutError, OSError):
                    pass
                finally:
                    follower._connected = False
                now = time.monotonic()
                if follower.last_id > before:
                    pause, down_since = 0.05, None
                elif down_since is None:
                    down_since = now
                elif now - down_since > GIVE_UP_SECONDS:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        except Exception as unexpected:  # noqa: BLE001 - the reader must hear of it
            error = unexpected if isinstance(unexpected, AlChatError) else AlChatUnreachable()
        finally:
            follower._end(error)

    async def _once(self, follower: Follower, token_source: Callable[[], str]) -> bool:
        """One connection; True when the run has ended, False when the stream was cut."""
        token = follower._first_token
        follower._first_token = None
        if token is None:
            token = await asyncio.get_running_loop().run_in_executor(None, token_source)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=5.0, sock_read=SILENCE_SECONDS
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        if follower.last_id:
            headers["Last-Event-ID"] = str(follower.last_id)
        async with self._session.get(
            f"{self._base_url}/api/runs/{follower.run_id}/events",
            headers=headers,
            allow_redirects=False,
        ) as response:
            if response.status == 204:
                return True
            if response.status != 200:
                raw = await response.content.read(65_536)
                body = object_of(raw)
                raise problem_of(response.status, body, response.headers.get("Retry-After"))
            follower._connected = True
            rest = b""
            async for chunk in response.content.iter_any():
                frames = (rest + chunk).split(b"\n\n")
                rest = frames.pop()
                events = [event for frame in frames if (event := event_of(frame)) is not None]
                if not events:
                    continue
                if not follower._put(events):
                    await self._wait_for_room(follower)
                if events[-1].terminal:
                    return True
                if follower.gap:
                    await asyncio.sleep(follower.gap)
        return False

    async def _wait_for_room(self, follower: Follower) -> None:
        room = follower._room
        assert room is not None  # noqa: S101 - made before the task
        room.clear()
        # The reader may have emptied the queue just before the flag was cleared.
        while len(follower._waiting) >= MAX_WAITING_EVENTS // 2:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await room.wait()


def _new_loop() -> asyncio.AbstractEventLoop:
    """The faster one, where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _cancel(follower: Follower) -> None:
    if follower._task is not None:
        follower._task.cancel()
