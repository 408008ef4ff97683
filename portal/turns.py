"""Scripts of pages take turns at the interpreter.

Python lets one thread work at a time and changes between those that want to every five
milliseconds. With a hundred pages at work at once each of them, and the loop that sends what they
draw, waits for a hundred others again and again, and all are late. So a few work while the others
sleep, and a turn passes from one to the next through the loop, once that has taken what was drawn.

Whose run began first goes first, also after it has waited for something else meanwhile; who has
patience lets those go before who came within that time.

A turn is for working: whoever waits for something else gives it up, and one that lasts too long
stops counting, so that a page that hangs keeps nobody waiting for more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

AT_ONCE: Final = 2
LONGEST_SECONDS: Final = 0.25
# How often the loop goes round until what a script has drawn is on its way to the browser.
ROUNDS: Final = 4


@dataclass(slots=True)
class _Turn:
    """Of one thread: when it began, and the time since when it would have been the next."""

    begun: float
    since: float


class Turns:
    """`at_once` threads have a turn at a time, each for `longest` seconds at most."""

    def __init__(
        self,
        at_once: int = AT_ONCE,
        longest: float = LONGEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_once = at_once
        self._longest = longest
        self._clock = clock
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # By thread.
        self._working: dict[int, _Turn] = {}
        # Since when each waits, its number, and the lock that calls it.
        self._waiting: list[tuple[float, int, threading.Lock]] = []
        self._numbers = itertools.count()
        # Those who were called and have not begun yet.
        self._called = 0

    @property
    def working(self) -> int:
        """How many have a turn."""
        return len(self._working)

    def pass_through(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """From now on a turn passes through this loop; None: straight from thread to thread."""
        with self._lock:
            self._loop = loop

    @contextmanager
    def one(self) -> Iterator[None]:
        """A turn for what this thread does now."""
        self._take(self._clock())
        try:
            yield
        finally:
            self._give()

    @contextmanager
    def pause(self, patience: float | None = None) -> Iterator[None]:
        """Gives up the turn of this thread, if it has one, for as long as it waits. `patience`, in
        seconds: what it does then may come as much later.
        """
        if threading.get_ident() not in self._working:
            yield
            return
        since = self._give()
        try:
            yield
        finally:
            self._take(since if patience is None else self._clock() + patience)

    def put_off(self, seconds: float) -> None:
        """Whoever begins within `seconds` from now goes before what this thread does once it has
        waited, as if its run had begun then.
        """
        turn = self._working.get(threading.get_ident())
        if turn is not None:
            turn.since = self._clock() + seconds

    def _take(self, since: float) -> None:
        me = threading.get_ident()
        with self._lock:
            now = self._clock()
            if not self._waiting and self._free(now):
                self._working[me] = _Turn(now, since)
                return
            called = threading.Lock()
            called.acquire()
            heapq.heappush(self._waiting, (since, next(self._numbers), called))
        while not called.acquire(timeout=self._longest):
            # Nobody has called: perhaps since those who work take too long.
            self._call()
        with self._lock:
            self._working[me] = _Turn(self._clock(), since)
            self._called -= 1

    def _give(self) -> float:
        with self._lock:
            given = self._working.pop(threading.get_ident())
            somebody_waits, loop = bool(self._waiting), self._loop
        if not somebody_waits:
            return given.since
        if loop is None:
            self._call()
        else:
            with contextlib.suppress(RuntimeError):  # closed: then they call themselves
                loop.call_soon_threadsafe(self._go_round, loop, ROUNDS)
        return given.since

    def _go_round(self, loop: asyncio.AbstractEventLoop, left: int) -> None:
        if left:
            loop.call_soon(self._go_round, loop, left - 1)
        else:
            self._call()

    def _free(self, now: float) -> bool:
        late = now - self._longest
        counting = sum(turn.begun > late for turn in self._working.values())
        return counting + self._called < self._at_once

    def _call(self) -> None:
        """Calls those who are next, as many as there is room for."""
        with self._lock:
            now = self._clock()
            while self._waiting and self._free(now):
                self._called += 1
                heapq.heappop(self._waiting)[2].release()


turns = Turns()
