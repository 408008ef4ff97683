"""The log of events: numbered, durable before visible, and readable from any number.

One writer commits what all runs produced together, so a hundred runs cost little more than one.
Followers read by number, from a short tail in memory or from the database, and never hold a run up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import Any, Protocol

import orjson
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from alchat_core.db.engine import Database
from alchat_core.db.tables import conversations, messages, run_events, runs
from alchat_core.ids import now_ms
from alchat_core.runs.events import STARTED, TEXT, Ending, Event

log = logging.getLogger(__name__)

TAIL_EVENTS = 512
TAIL_BYTES = 128 * 1024
LINGER_SECONDS = 2.0
START_PATIENCE_SECONDS = 0.05
PAUSE_PER_RUN_SECONDS = 0.00015


class EventLog(Protocol):
    """Where the events of live runs are kept. A shared engine (Redis Streams, say) fits here too:
    nothing below assumes that the writer and the follower are one process.
    """

    def open(self, run_id: str, conversation_id: str, message_id: str) -> None:
        """Declares a new run, whose first event will be number 1."""

    def started(
        self,
        run_id: str,
        model: str,
        credential_id: str | None = None,
        credential_type: str | None = None,
    ) -> None:
        """Appends `run.started`, and keeps with the run which credential it uses."""

    def text(self, run_id: str, piece: str) -> None:
        """Appends text. Pieces that arrive within one commit become one event."""

    async def finish(self, run_id: str, ending: Ending) -> None:
        """Appends the last event, stores the answer, and returns when both are durable."""

    async def discard(self, run_id: str, ending: Ending) -> None:
        """Ends a run whose rows are gone: followers are told, nothing is stored."""

    async def read(self, run_id: str, after: int, limit: int = 1000) -> list[Event]:
        """Committed events with a higher number than `after`, in order."""

    def watch(self, run_id: str, signal: asyncio.Event) -> bool:
        """Sets `signal` at every commit of this run, until `unwatch`. False: it is not live."""

    def unwatch(self, run_id: str, signal: asyncio.Event) -> None:
        """Ends what `watch` began."""


class _Channel:
    """What the process holds of one live run."""

    __slots__ = (
        "answer",
        "closed",
        "conversation_id",
        "credential_id",
        "credential_type",
        "dirty",
        "discarded",
        "done",
        "ending",
        "message_id",
        "model",
        "number",
        "pending",
        "pieces",
        "run_id",
        "spoke",
        "starting",
        "tail",
        "tail_bytes",
        "watchers",
    )

    def __init__(self, run_id: str, conversation_id: str, message_id: str) -> None:
        self.run_id = run_id
        self.conversation_id = conversation_id
        self.message_id = message_id
        self.number = 0
        self.model: str | None = None
        self.credential_id: str | None = None
        self.credential_type: str | None = None
        self.starting = False
        self.pieces: list[str] = []
        self.pending: list[Event] = []
        self.answer: list[str] = []
        self.ending: Ending | None = None
        self.dirty = self.spoke = self.discarded = self.closed = False
        self.done = asyncio.Event()
        self.tail: deque[Event] = deque()
        self.tail_bytes = 0
        self.watchers: set[asyncio.Event] = set()

    def gather(self) -> list[Event]:
        """Numbers what is new; what an earlier commit failed to store comes first."""
        events = self.pending
        if self.starting:
            self.starting = False
            self.number += 1
            events.append(Event(self.number, STARTED, orjson.dumps({"model": self.model})))
        if self.pieces:
            text = "".join(self.pieces)
            self.pieces.clear()
            self.answer.append(text)
            self.number += 1
            events.append(Event(self.number, TEXT, orjson.dumps({"text": text})))
        if self.ending is not None and not self.closed:
            self.closed = True
            self.number += 1
            events.append(Event(self.number, self.ending.type, orjson.dumps(self.ending.data)))
        return events

    def publish(self) -> None:
        """Makes what is committed visible."""
        for event in self.pending:
            self.tail.append(event)
            self.tail_bytes += len(event.data)
        while len(self.tail) > TAIL_EVENTS or (self.tail_bytes > TAIL_BYTES and len(self.tail) > 1):
            self.tail_bytes -= len(self.tail.popleft().data)
        self.pending = []
        for signal in self.watchers:
            signal.set()
        if self.closed:
            self.done.set()


_INSERT_EVENT = insert(run_events)
_START_RUN = (
    update(runs)
    .where(runs.c.id == bindparam("run"))
    .values(
        state="running",
        model=bindparam("used_model"),
        credential_id=bindparam("used_id"),
        credential_type=bindparam("used_type"),
    )
)
_END_RUN = (
    update(runs)
    .where(runs.c.id == bindparam("run"))
    .values(
        state=bindparam("new_state"),
        finished_at=bindparam("now"),
        last_event=bindparam("last"),
        error=bindparam("new_error"),
        usage=bindparam("new_usage"),
    )
)
_STORE_ANSWER = (
    update(messages)
    .where(messages.c.id == bindparam("message"))
    .values(content=bindparam("new_content"), model=bindparam("used_model"))
)
_TOUCH = (
    update(conversations)
    .where(conversations.c.id == bindparam("conversation"))
    .values(
        updated_at=bindparam("now"),
        last_message_at=bindparam("now"),
        # The next message asks the same model, unless that one has just failed.
        model=func.coalesce(bindparam("good_model"), conversations.c.model),
    )
)
_READ = (
    select(run_events.c.number, run_events.c.type, run_events.c.data)
    .where(run_events.c.run_id == bindparam("run"), run_events.c.number > bindparam("after"))
    .order_by(run_events.c.number)
    .limit(bindparam("count"))
)


class DatabaseLog:
    """The `EventLog` of one process: the database for durability, a tail in memory for speed."""

    def __init__(self, database: Database, *, interval: float) -> None:
        self._database = database
        self._interval = interval
        self._channels: dict[str, _Channel] = {}
        self._dirty: list[_Channel] = []
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._write_forever(), name="event-log-writer")

    async def stop(self) -> None:
        """Ends the writer. Whatever was not committed by now is lost to followers as well."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def open(self, run_id: str, conversation_id: str, message_id: str) -> None:
        self._channels[run_id] = _Channel(run_id, conversation_id, message_id)

    def started(
        self,
        run_id: str,
        model: str,
        credential_id: str | None = None,
        credential_type: str | None = None,
    ) -> None:
        channel = self._channels[run_id]
        channel.model = model
        channel.credential_id = credential_id
        channel.credential_type = credential_type
        channel.starting = True
        # As a rule the first word is close behind, and one commit serves both.
        asyncio.get_running_loop().call_later(START_PATIENCE_SECONDS, self._mark_started, channel)

    def text(self, run_id: str, piece: str) -> None:
        channel = self._channels[run_id]
        channel.pieces.append(piece)
        if not channel.spoke:
            channel.spoke = True
            self._hurry.set()
        self._mark(channel)

    async def finish(self, run_id: str, ending: Ending) -> None:
        channel = self._channels[run_id]
        if channel.ending is None:
            channel.ending = ending
            self._hurry.set()
            self._mark(channel)
        await channel.done.wait()

    async def discard(self, run_id: str, ending: Ending) -> None:
        channel = self._channels.get(run_id)
        if channel is not None:
            channel.discarded = True
            await self.finish(run_id, ending)

    async def read(self, run_id: str, after: int, limit: int = 1000) -> list[Event]:
        channel = self._channels.get(run_id)
        if channel is not None:
            if not channel.tail:
                return []
            first = channel.tail[0].number
            last = channel.tail[-1].number
            if after >= last:
                return []
            if after + 1 >= first:
                if last - after <= 4:
                    return [channel.tail[index - 1 - last] for index in range(after + 1, last + 1)]
                return [event for event in channel.tail if event.number > after][:limit]
        wanted = {"run": run_id, "after": after, "count": limit}
        rows = await self._database.read(lambda connection: connection.execute(_READ, wanted).all())
        return [Event(number, kind, data.encode()) for number, kind, data in rows]

    def watch(self, run_id: str, signal: asyncio.Event) -> bool:
        channel = self._channels.get(run_id)
        if channel is None:
            return False
        channel.watchers.add(signal)
        return True

    def unwatch(self, run_id: str, signal: asyncio.Event) -> None:
        channel = self._channels.get(run_id)
        if channel is not None:
            channel.watchers.discard(signal)

    def last_number(self, run_id: str) -> int | None:
        """The number of the last visible event of a live run, None if it is not live."""
        channel = self._channels.get(run_id)
        if channel is None:
            return None
        return channel.tail[-1].number if channel.tail else 0

    def _mark_started(self, channel: _Channel) -> None:
        if channel.starting:
            self._mark(channel)

    def _mark(self, channel: _Channel) -> None:
        if not channel.dirty:
            channel.dirty = True
            self._dirty.append(channel)
            self._wake.set()

    async def _write_forever(self) -> None:
        loop = asyncio.get_running_loop()
        earliest = 0.0
        failures = 0
        while True:
            await self._wake.wait()
            delay = earliest - loop.time()
            if delay > 0 and not self._hurry.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._hurry.wait()
            self._wake.clear()
            self._hurry.clear()
            batch, self._dirty = self._dirty, []
            for channel in batch:
                channel.dirty = False
            try:
                await self._commit(batch)
            except Exception as error:  # noqa: BLE001 - whatever the driver raises, nothing is lost
                failures += 1
                log.error(
                    "the event log could not be written", extra={"code": type(error).__name__}
                )
                for channel in batch:
                    self._mark(channel)
                await asyncio.sleep(min(2.0, 0.05 * 2**failures))
            else:
                failures = 0
            # The more runs write, the longer the pause: what one saves here, all followers gain.
            earliest = loop.time() + self._interval + len(batch) * PAUSE_PER_RUN_SECONDS

    async def _commit(self, batch: list[_Channel]) -> None:
        for channel in batch:
            channel.gather()
        stored = [channel for channel in batch if not channel.discarded]
        if stored:
            try:
                await self._store(stored)
            except IntegrityError:
                await self._store_one_by_one(stored)
        for channel in batch:
            channel.publish()
            if channel.closed:
                asyncio.get_running_loop().call_later(
                    LINGER_SECONDS, self._channels.pop, channel.run_id, None
                )

    async def _store_one_by_one(self, channels: list[_Channel]) -> None:
        for channel in channels:
            try:
                await self._store([channel])
            except IntegrityError:
                channel.discarded = True

    async def _store(self, channels: list[_Channel]) -> None:
        events = [
            {
                "run_id": channel.run_id,
                "number": event.number,
                "type": event.type,
                "data": event.data.decode(),
            }
            for channel in channels
            for event in channel.pending
        ]
        if not events:
            return
        names = [
            {
                "run": c.run_id,
                "used_model": c.model,
                "used_id": c.credential_id,
                "used_type": c.credential_type,
            }
            for c in channels
            if c.pending and c.pending[0].type == STARTED
        ]
        ended = [_ended_row(c) for c in channels if c.closed]

        def unit(connection: Connection) -> None:
            connection.execute(_INSERT_EVENT, events)
            if names:
                connection.execute(_START_RUN, names)
            if ended:
                connection.execute(_END_RUN, ended)
                connection.execute(_STORE_ANSWER, ended)
                connection.execute(_TOUCH, ended)

        await self._database.write(unit)


def _ended_row(channel: _Channel) -> dict[str, Any]:
    assert channel.ending is not None  # noqa: S101 - `closed` means that there is one
    data = channel.ending.data
    return {
        "run": channel.run_id,
        "message": channel.message_id,
        "conversation": channel.conversation_id,
        "now": now_ms(),
        "last": channel.number,
        "new_state": channel.ending.state,
        "new_error": data if channel.ending.state == "failed" else None,
        "good_model": channel.model if channel.ending.state == "completed" else None,
        "new_usage": data.get("usage"),
        "used_model": channel.model,
        "new_content": "".join(channel.answer),
    }
