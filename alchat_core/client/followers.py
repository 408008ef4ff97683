"""Followers of runs: the background loop serves all of a process.

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

from alchat_core.client.background import CONNECT_SECONDS, Background
from alchat_core.client.errors import AlChatError, AlChatProblem, AlChatUnreachable, problem_of
from alchat_core.client.reading import event_of, object_of
from alchat_core.client.values import Event

MAX_WAITING_EVENTS: Final = 1000
SILENCE_SECONDS: Final = 25.0
LONGEST_PAUSE_SECONDS: Final = 2.0
GIVE_UP_SECONDS: Final = 60.0

_PATIENCE: Final = aiohttp.ClientTimeout(
    total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
)


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
        self._nudged = False
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
        """New events, at once if there are any; [] after `timeout` seconds, or a `nudge`.

        Raises `AlChatError` if the run cannot be followed (any more).
        """
        with self._condition:
            if not self._waiting and not self._ended and not self._nudged:
                self._condition.wait(timeout)
            self._nudged = False
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
        """Lets events gather for `seconds`, or until the one that ends the run is there, or a
        `nudge`.
        """
        with self._condition:
            self._resting = True
            try:
                self._condition.wait_for(self._rested, seconds)
            finally:
                self._resting = self._nudged = False

    def _rested(self) -> bool:
        nothing_more = self._ended or bool(self._waiting and self._waiting[-1].terminal)
        return nothing_more or self._nudged

    def nudge(self) -> None:
        """From any thread: whoever waits or rests here, or is about to, looks up from it once."""
        with self._condition:
            self._nudged = True
            self._condition.notify_all()

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
    """All followers of a process, in its background loop."""

    def __init__(self, background: Background) -> None:
        self._background = background

    def follow(self, run_id: str, after: int, token_source: Callable[[], str]) -> Follower:
        follower = Follower(self, run_id, after, token_source())
        self._background.call_soon(self._begin, follower, token_source)
        return follower

    def end(self, follower: Follower) -> None:
        follower._end()
        self._background.call_if_running(_cancel, follower)

    def make_room(self, follower: Follower) -> None:
        if follower._room is not None:
            self._background.call_if_running(follower._room.set)

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
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        if follower.last_id:
            headers["Last-Event-ID"] = str(follower.last_id)
        background = self._background
        async with background.session().get(
            background.address(f"/api/runs/{follower.run_id}/events"),
            headers=headers,
            timeout=_PATIENCE,
            allow_redirects=False,
        ) as response:
            if response.status == 204:
                return True
            if response.status != 200:
                raw = await response.content.read(65_536)
                body = object_of(raw)
                raise problem_of(response.status, body, response.headers.get("Retry-After"))
            follower._connected = True
            ended = asyncio.Event()
            response.content.on_eof(ended.set)
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
                    # The last words do not wait for more of them.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(follower.gap):
                            await ended.wait()
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


def _cancel(follower: Follower) -> None:
    if follower._task is not None:
        follower._task.cancel()
