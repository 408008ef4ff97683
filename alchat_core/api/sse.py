"""Follows a run as server-sent events, written straight to the ASGI server.

Events are read by number and in small pages, so a slow follower holds up nothing and costs hardly
any memory; the stream ends after the event that ends the run.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from alchat_core.runs.log import EventLog

HEARTBEAT_SECONDS = 10.0
PAGE = 500
PAGE_BYTES = 128 * 1024
SLICE_BYTES = 64 * 1024


class EventStream(Response):
    """The events of `run_id` after number `after`."""

    media_type = "text/event-stream"

    def __init__(self, events: EventLog, run_id: str, after: int) -> None:
        super().__init__(
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        del self.headers["content-length"]
        self._events = events
        self._run_id = run_id
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        signal = asyncio.Event()
        live = self._events.watch(self._run_id, signal)
        loop = asyncio.get_running_loop()
        gone = asyncio.create_task(_gone(receive))
        gone.add_done_callback(lambda _task: signal.set())
        beat = loop.call_later(HEARTBEAT_SECONDS, signal.set)
        sent_at = loop.time()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while not gone.done():
                signal.clear()
                events = await self._events.read(self._run_id, self._after, PAGE, PAGE_BYTES)
                if events:
                    self._after = events[-1].number
                    body = b"".join([event.frame() for event in events])
                    if events[-1].terminal:
                        await _body(send, body, more=False)
                        return
                    del events
                    await _body(send, body)
                    del body
                    sent_at = loop.time()
                    continue
                if not live:
                    break
                await signal.wait()
                live = self._events.watch(self._run_id, signal)
                if loop.time() - sent_at >= HEARTBEAT_SECONDS - 0.5:
                    await _body(send, b": \n\n")
                    sent_at = loop.time()
                if beat.when() <= loop.time():
                    beat = loop.call_later(HEARTBEAT_SECONDS, signal.set)
            await _body(send, b"", more=False)
        finally:
            beat.cancel()
            self._events.unwatch(self._run_id, signal)
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone


async def _body(send: Send, body: bytes, *, more: bool = True) -> None:
    # The server keeps what is handed to it until it is sent: a slow follower gets it in slices.
    while len(body) > SLICE_BYTES:
        await send({"type": "http.response.body", "body": body[:SLICE_BYTES], "more_body": True})
        body = body[SLICE_BYTES:]
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
