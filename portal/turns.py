"""Scripts of pages take turns at the interpreter.

Python lets one thread work at a time and changes between those that want to every five
milliseconds. With a hundred pages at work at once each of them, and the loop that sends what they
draw, waits for a hundred others again and again, and all are late. So a few work, in the order in
which they came, while the others sleep.

A turn is for working: whoever waits for something else gives it up meanwhile, and one that lasts
too long stops counting, so that a page that hangs keeps nobody waiting for more than that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

AT_ONCE: Final = 2
LONGEST_SECONDS: Final = 0.25


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
        # By thread, when its turn began; in that order.
        self._working: dict[int, float] = {}
        self._waiting: deque[threading.Lock] = deque()
        # Those who were called and have not begun yet.
        self._called = 0

    @property
    def working(self) -> int:
        """How many have a turn."""
        return len(self._working)

    @contextmanager
    def one(self) -> Iterator[None]:
        """A turn for what this thread does now."""
        self._take()
        try:
            yield
        finally:
            self._give()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Gives up the turn of this thread, if it has one, for as long as it waits."""
        if threading.get_ident() not in self._working:
            yield
            return
        self._give()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        me = threading.get_ident()
        with self._lock:
            now = self._clock()
            if not self._waiting and self._free(now):
                self._working[me] = now
                return
            called = threading.Lock()
            called.acquire()
            self._waiting.append(called)
        while not called.acquire(timeout=self._longest):
            # Nobody has called: perhaps since those who work take too long.
            with self._lock:
                self._call()
        with self._lock:
            self._working[me] = self._clock()
            self._called -= 1

    def _give(self) -> None:
        with self._lock:
            self._working.pop(threading.get_ident(), None)
            self._call()

    def _free(self, now: float) -> bool:
        late = now - self._longest
        return sum(begun > late for begun in self._working.values()) + self._called < self._at_once

    def _call(self) -> None:
        """Calls those who wait longest, as many as there is room for."""
        now = self._clock()
        while self._waiting and self._free(now):
            self._called += 1
            self._waiting.popleft().release()


turns = Turns()
