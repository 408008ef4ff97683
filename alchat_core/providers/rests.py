"""Reads a body in the rhythm in which what it says is shown, instead of at each of its chunks.

With many answers at once most of what a token costs is waking up for it. The bytes lie in aiohttp's
buffer meanwhile; the end of the body ends a rest, so that no answer ends later for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

# Whoever sends so much at once is ahead of us, and has more.
MUCH_BYTES = 16 * 1024

Rest = Callable[[], float]


def no_rest() -> float:
    """For those who are to read at once."""
    return 0.0


class Rests:
    """The rests while one body is read; `seconds()` is how long the next may be."""

    def __init__(self, content: aiohttp.StreamReader, seconds: Rest) -> None:
        self._content = content
        self._seconds = seconds
        self._over: asyncio.Future[None] | None = None
        content.on_eof(self._end)

    async def take(self, chunk: bytes) -> None:
        """Comes back when there may be more to read for; `chunk` has just been read."""
        seconds = self._seconds()
        if seconds <= 0 or len(chunk) > MUCH_BYTES or self._content.is_eof():
            return
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        timer = loop.call_later(seconds, self._end)
        try:
            await self._over
        finally:
            timer.cancel()
            self._over = None

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
