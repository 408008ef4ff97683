"""The log of events: numbered, durable before visible, and readable from any number.

One writer commits what all runs produced together, so a hundred runs cost little more than one.
Followers read by number, from a short tail in memory or from the database, and never hold a run up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson
from sqlalchemy import (
    BigInteger,
    Integer,
    String,
    Text,
    bindparam,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from alchat_core.conversations.search import Entry, index_changes, put
from alchat_core.db.engine import Database
from alchat_core.db.tables import conversations, messages, run_events, runs
from alchat_core.ids import now_ms
from alchat_core.metrics import Metrics
from alchat_core.runs.events import REASONING, STARTED, TEXT, Ending, Event
from alchat_core.usage.outbox import ADD as ADD_TO_OUTBOX
from alchat_core.usage.spent import NOTHING, Spent, outbox_rows
from sqlkit import Change, Many

log = logging.getLogger(__name__)

TAIL_EVENTS = 512
TAIL_BYTES = 128 * 1024
LINGER_SECONDS = 2.0
START_PATIENCE_SECONDS = 0.05
PAUSE_PER_RUN_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 0.1
RESTING_RUNS = 10
# What a run takes to read what has come for it, with much room.
READING_SECONDS = 0.0001


class EventLog(Protocol):
    """Where the events of live runs are kept. A shared engine (Redis Streams, say) fits here too:
    nothing below assumes that the writer and the follower are one process.
    """

    def open(
        self,
        run_id: str,
        conversation_id: str,
        message_id: str,
        kept: str = "",
        entries: Sequence[Entry] = (),
        *,
        aside: bool = False,
    ) -> None:
        """Declares a new run, whose first event will be number 1.

        `kept` is the beginning of the answer that is there already, from an earlier run. `entries`
        go into the search index with the first events that are not in a hurry. `aside`: its model
        is not what the next message asks.
        """

    def started(
        self,
        run_id: str,
        model: str,
        credential_id: str | None = None,
        credential_type: str | None = None,
        lease_id: str | None = None,
    ) -> None:
        """Appends `run.started`, and keeps with the run which credential it uses."""

    def text(self, run_id: str, piece: str) -> None:
        """Appends text. Pieces that arrive within one commit become one event."""

    def reasoning(self, run_id: str, piece: str) -> None:
        """Appends what the model thinks, which is no part of the answer; gathered like text."""

    def note(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        """Appends an event of its own, after all that was appended before."""

    def borrowed(self, run_id: str, credential_id: str, credential_type: str) -> None:
        """The run goes on with this credential; kept with it when it ends."""

    def written(self, run_id: str) -> str:
        """The answer so far, with what was kept before this run."""

    async def finish(self, run_id: str, ending: Ending, spent: Spent = NOTHING) -> None:
        """Appends the last event, stores the answer, and returns when both are durable.

        What was `spent` is stored with it, and for the report to Papita.
        """

    async def discard(self, run_id: str, ending: Ending) -> None:
        """Ends a run whose rows are gone: followers are told, nothing is stored."""

    async def read(
        self, run_id: str, after: int, limit: int = 1000, max_bytes: int | None = None
    ) -> list[Event]:
        """Committed events with a higher number than `after`, in order: at most `limit`, and none
        beyond the one that reaches `max_bytes`. Empty only if there are none.
        """

    def watch(self, run_id: str, signal: asyncio.Event) -> bool:
        """Sets `signal` at every commit of this run, until `unwatch`. False: nothing more will
        come.
        """

    def unwatch(self, run_id: str, signal: asyncio.Event) -> None:
        """Ends what `watch` began."""

    def ended(self, run_id: str) -> bool:
        """Whether the end of a run that was live a moment ago is stored."""


class _Channel:
    """What the process holds of one live run."""

    __slots__ = (
        "answer",
        "aside",
        "asked_at",
        "closed",
        "conversation_id",
        "credential_id",
        "credential_type",
        "dirty",
        "discarded",
        "done",
        "early",
        "ending",
        "entries",
        "first_at",
        "fresh",
        "lease_id",
        "message_id",
        "model",
        "naming",
        "number",
        "opened_at",
        "pending",
        "pieces",
        "queue",
        "reasoned",
        "run_id",
        "settled",
        "spent",
        "spoke",
        "starting",
        "tail",
        "tail_bytes",
        "thinking_since",
        "thought_seconds",
        "thoughts",
        "watchers",
    )

    def __init__(self, run_id: str, conversation_id: str, message_id: str, kept: str) -> None:
        self.run_id = run_id
        self.conversation_id = conversation_id
        self.message_id = message_id
        # Moments of the time to first token; `first_at` is zero before and after.
        self.opened_at = self.asked_at = time.monotonic()
        self.first_at = 0.0
        self.number = 0
        self.aside = False
        self.entries: Sequence[Entry] = ()
        self.model: str | None = None
        self.credential_id: str | None = None
        self.credential_type: str | None = None
        self.lease_id: str | None = None
        self.spent = NOTHING
        self.starting = self.naming = False
        self.pieces: list[str] = []
        self.thoughts: list[str] = []
        self.reasoned: list[str] = []
        self.thinking_since = self.thought_seconds = 0.0
        self.queue: list[tuple[str, dict[str, Any]]] = []
        self.pending: list[Event] = []
        self.answer: list[str] = [kept] if kept else []
        self.fresh = not kept
        self.ending: Ending | None = None
        self.early: Event | None = None
        self.dirty = self.spoke = self.discarded = self.closed = self.settled = False
        self.done = asyncio.Event()
        self.tail: deque[Event] = deque()
        self.tail_bytes = 0
        self.watchers: set[asyncio.Event] = set()

    def gather(self) -> list[Event]:
        """Numbers what is new; what an earlier commit failed to store comes first."""
        events = self.pending
        if self.starting:
            self.starting = False
            self.naming = True
            self.number += 1
            events.append(Event(self.number, STARTED, orjson.dumps({"model": self.model})))
        self.seal()
        for kind, data in self.queue:
            self.number += 1
            events.append(Event(self.number, kind, orjson.dumps(data)))
        self.queue.clear()
        if self.ending is not None and not self.closed:
            self.closed = True
            self.number += 1
            events.append(Event(self.number, self.ending.type, orjson.dumps(self.ending.data)))
        return events

    def seal(self) -> None:
        """What has gathered becomes an event, whatever comes next; thoughts came before text."""
        if self.thoughts:
            text = "".join(self.thoughts).replace("\x00", "\ufffd")
            self.thoughts.clear()
            self.reasoned.append(text)
            self.queue.append((REASONING, {"text": text}))
        if self.pieces:
            # PostgreSQL cannot store null characters, and no text needs them.
            text = "".join(self.pieces).replace("\x00", "\ufffd")
            self.pieces.clear()
            self.answer.append(text)
            self.queue.append((TEXT, {"text": text}))

    def decide(self) -> None:
        """The model has come to an end of its thinking, if it was at it."""
        if self.thinking_since:
            self.thought_seconds += time.monotonic() - self.thinking_since
            self.thinking_since = 0.0

    def show_ending(self) -> None:
        """Tells followers how the run ended although that cannot be stored now.

        The text before it stays unseen until it is durable.
        """
        if self.early is None:
            self.early = self.pending[-1]
            for signal in self.watchers:
                signal.set()

    def publish(self) -> None:
        """Makes what is committed visible."""
        self.naming = False
        self.early = None
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


_INSERT_EVENT = Many.insert(run_events)
_START_RUN = Many(
    lambda given: (
        update(runs)
        .where(runs.c.id == given.run)
        .values(
            state="running",
            model=given.used_model,
            credential_id=given.used_id,
            credential_type=given.used_type,
            lease_id=given.used_lease,
        )
    ),
    dict.fromkeys(("run", "used_model", "used_id", "used_type", "used_lease"), String()),
)
_END_RUN = Many(
    lambda given: (
        update(runs)
        .where(runs.c.id == given.run)
        .values(
            state=given.new_state,
            finished_at=given.now,
            last_event=given.last,
            credential_id=func.coalesce(given.used_id, runs.c.credential_id),
            credential_type=func.coalesce(given.used_type, runs.c.credential_type),
            error=given.new_error,
            usage=given.new_usage,
            requests=given.new_requests,
            unpriced=given.new_unpriced,
            prompt_tokens=given.new_prompt_tokens,
            completion_tokens=given.new_completion_tokens,
            cost_nano=given.new_cost,
            price_source=given.new_price_source,
        )
    ),
    {
        **dict.fromkeys(("run", "new_state", "used_id", "used_type", "new_price_source"), String()),
        "now": BigInteger(),
        "last": Integer(),
        "new_error": runs.c.error.type,
        "new_usage": runs.c.usage.type,
        "new_requests": BigInteger(),
        "new_unpriced": BigInteger(),
        "new_prompt_tokens": BigInteger(),
        "new_completion_tokens": BigInteger(),
        "new_cost": BigInteger(),
    },
)
_STORE_ANSWER = Many(
    lambda given: (
        update(messages)
        .where(messages.c.id == given.message)
        .values(
            content=given.new_content,
            model=func.coalesce(given.used_model, messages.c.model),
            # Null is nothing new; what an earlier run of this answer thought stays before it.
            reasoning=func.coalesce(
                func.coalesce(messages.c.reasoning, literal("")) + given.new_reasoning,
                messages.c.reasoning,
            ),
            reasoning_ms=func.coalesce(
                func.coalesce(messages.c.reasoning_ms, literal(0)) + given.new_reasoning_ms,
                messages.c.reasoning_ms,
            ),
            usage=func.coalesce(given.new_message_usage, messages.c.usage),
        )
    ),
    {
        **dict.fromkeys(("message", "used_model"), String()),
        **dict.fromkeys(("new_content", "new_reasoning"), Text()),
        "new_reasoning_ms": BigInteger(),
        "new_message_usage": messages.c.usage.type,
    },
)
_TOUCH = Many(
    lambda given: (
        update(conversations)
        .where(conversations.c.id == given.conversation)
        .values(
            updated_at=given.now,
            last_message_at=given.now,
            # The next message asks the same model, unless that has just failed or was only
            # compared.
            model=func.coalesce(given.good_model, conversations.c.model),
        )
    ),
    {"conversation": String(), "now": BigInteger(), "good_model": String()},
)
_READ = (
    select(run_events.c.number, run_events.c.type, run_events.c.data)
    .where(run_events.c.run_id == bindparam("run"), run_events.c.number > bindparam("after"))
    .order_by(run_events.c.number)
    .limit(bindparam("count"))
)


class DatabaseLog:
    """The `EventLog` of one process: the database for durability, a tail in memory for speed."""

    def __init__(
        self,
        database: Database,
        *,
        interval: float,
        patience: float = 30.0,
        metrics: Metrics | None = None,
    ) -> None:
        self._database = database
        self._metrics = metrics or Metrics()
        self._describe_gauges(self._metrics)
        self._interval = interval
        self._patience = patience
        self._failing_since: float | None = None
        self._end_run: Callable[[str], None] = lambda _run_id: None
        self._tell_spent: Callable[[], None] = lambda: None
        self._channels: dict[str, _Channel] = {}
        self._dirty: list[_Channel] = []
        self._earliest = 0.0
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def if_stuck(self, end_run: Callable[[str], None]) -> None:
        """`end_run(run_id)` is called for runs whose events could not be stored for `patience`
        seconds; it has to bring `finish` about.
        """
        self._end_run = end_run

    def when_spent(self, tell: Callable[[], None]) -> None:
        """`tell()` is called when there is something new to be reported to Papita."""
        self._tell_spent = tell

    @property
    def stuck(self) -> bool:
        """Whether events wait because they could not be stored; they are tried again."""
        return self._failing_since is not None

    def shown_ending(self, run_id: str) -> Ending | None:
        """How a run ended that followers know to have ended and that is not stored yet."""
        channel = self._channels.get(run_id)
        return channel.ending if channel is not None and channel.early is not None else None

    def rest(self) -> float:
        """Seconds for which text may wait unread and is shown no later for it; 0 with few runs."""
        if len(self._channels) < RESTING_RUNS:
            return 0.0
        now = asyncio.get_running_loop().time()
        until = self._earliest - len(self._channels) * READING_SECONDS
        if until <= now:
            # What has just been read goes with the next commit, what comes with the one after it.
            until = max(until, now) + self._interval + self._pause()
        return until - now

    def start(self) -> None:
        self._task = asyncio.create_task(self._write_forever(), name="event-log-writer")

    async def stop(self) -> None:
        """Ends the writer. Whatever was not committed by now is lost to followers as well."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def open(
        self,
        run_id: str,
        conversation_id: str,
        message_id: str,
        kept: str = "",
        entries: Sequence[Entry] = (),
        *,
        aside: bool = False,
    ) -> None:
        channel = _Channel(run_id, conversation_id, message_id, kept)
        channel.entries = entries
        channel.aside = aside
        self._channels[run_id] = channel

    def started(
        self,
        run_id: str,
        model: str,
        credential_id: str | None = None,
        credential_type: str | None = None,
        lease_id: str | None = None,
    ) -> None:
        channel = self._channels[run_id]
        channel.model = model
        channel.lease_id = lease_id
        channel.credential_id = credential_id
        channel.credential_type = credential_type
        channel.starting = True
        channel.asked_at = time.monotonic()
        # As a rule the first word is close behind, and one commit serves both.
        asyncio.get_running_loop().call_later(START_PATIENCE_SECONDS, self._mark_started, channel)

    def text(self, run_id: str, piece: str) -> None:
        channel = self._channels[run_id]
        channel.decide()
        channel.pieces.append(piece)
        if not channel.spoke:
            channel.spoke = True
            channel.first_at = time.monotonic()
            self._hurry.set()
        self._mark(channel)

    def reasoning(self, run_id: str, piece: str) -> None:
        channel = self._channels[run_id]
        if channel.pieces:
            channel.seal()
        channel.thoughts.append(piece)
        channel.thinking_since = channel.thinking_since or time.monotonic()
        if not channel.reasoned:
            self._hurry.set()
        self._mark(channel)

    def note(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        channel = self._channels[run_id]
        channel.decide()
        channel.seal()
        channel.queue.append((kind, data))
        self._hurry.set()
        self._mark(channel)

    def borrowed(self, run_id: str, credential_id: str, credential_type: str) -> None:
        channel = self._channels[run_id]
        channel.credential_id = credential_id
        channel.credential_type = credential_type

    def written(self, run_id: str) -> str:
        channel = self._channels[run_id]
        return "".join([*channel.answer, *channel.pieces])

    async def finish(self, run_id: str, ending: Ending, spent: Spent = NOTHING) -> None:
        channel = self._channels[run_id]
        if channel.ending is None:
            channel.decide()
            channel.ending = ending
            channel.spent = spent
            self._hurry.set()
            self._mark(channel)
        await channel.done.wait()
        if spent.uses and not channel.settled:
            # Its rows are gone, and what it cost is owed all the same.
            rows = outbox_rows(run_id, spent.uses)
            await self._database.write(lambda connection: ADD_TO_OUTBOX.run(connection, *rows))
            self._tell_spent()

    async def discard(self, run_id: str, ending: Ending) -> None:
        channel = self._channels.get(run_id)
        if channel is not None:
            channel.discarded = True
            await self.finish(run_id, ending)

    async def read(
        self, run_id: str, after: int, limit: int = 1000, max_bytes: int | None = None
    ) -> list[Event]:
        channel = self._channels.get(run_id)
        if channel is not None:
            if channel.early is not None and after >= (self.last_number(run_id) or 0):
                return [channel.early] if after < channel.early.number else []
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

        def unit(connection: Connection) -> list[Event]:
            found: list[Event] = []
            size = 0
            with connection.execute(_READ, wanted) as rows:
                for number, kind, data in rows:
                    found.append(Event(number, kind, data.encode()))
                    size += len(found[-1].data)
                    if max_bytes is not None and size >= max_bytes:
                        break
            return found

        return await self._database.read(unit)

    def watch(self, run_id: str, signal: asyncio.Event) -> bool:
        channel = self._channels.get(run_id)
        if channel is None or channel.done.is_set():
            return False
        channel.watchers.add(signal)
        return True

    def unwatch(self, run_id: str, signal: asyncio.Event) -> None:
        channel = self._channels.get(run_id)
        if channel is not None:
            channel.watchers.discard(signal)

    def ended(self, run_id: str) -> bool:
        channel = self._channels.get(run_id)
        return channel is not None and channel.done.is_set()

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
        failures = 0
        while True:
            await self._wake.wait()
            delay = self._earliest - loop.time()
            if delay > 0 and not self._hurry.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._hurry.wait()
            self._wake.clear()
            self._hurry.clear()
            batch, self._dirty = self._dirty, []
            for channel in batch:
                channel.dirty = False
            begin = loop.time()
            try:
                await self._commit(batch)
            except Exception as error:  # noqa: BLE001 - whatever the driver raises, nothing is lost
                failures += 1
                self._metrics.committed(loop.time() - begin, ok=False)
                log.error(
                    "the event log could not be written", extra={"code": type(error).__name__}
                )
                for channel in batch:
                    self._mark(channel)
                self._have_patience(batch, loop.time())
                await asyncio.sleep(min(2.0, 0.05 * 2**failures))
            else:
                failures = 0
                self._failing_since = None
                self._metrics.committed(loop.time() - begin, ok=True)
            self._earliest = loop.time() + self._interval + self._pause()

    def _pause(self) -> float:
        """The more runs there are, the longer: what is saved here, all of them gain."""
        return min(LONGEST_PAUSE_SECONDS, len(self._channels) * PAUSE_PER_RUN_SECONDS)

    def _have_patience(self, batch: list[_Channel], now: float) -> None:
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since < self._patience:
            return
        for channel in batch:
            if channel.closed:
                channel.show_ending()
            elif channel.ending is None:
                self._end_run(channel.run_id)

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
            if channel.first_at:
                self._measure(channel)
            if channel.closed:
                self._count(channel)
                asyncio.get_running_loop().call_later(
                    LINGER_SECONDS, self._channels.pop, channel.run_id, None
                )

    def _measure(self, channel: _Channel) -> None:
        now = time.monotonic()
        provider = channel.first_at - channel.asked_at
        whole = now - channel.opened_at
        self._metrics.first_token(whole, whole - provider)
        channel.first_at = 0.0

    def _count(self, channel: _Channel) -> None:
        assert channel.ending is not None  # noqa: S101 - `closed` means that there is one
        self._metrics.run_ended(channel.ending.state, channel.ending.data.get("code", ""))

    def _describe_gauges(self, metrics: Metrics) -> None:
        metrics.gauge(
            "alchat_running_answers",
            "Answers that are being written.",
            lambda: sum(not channel.closed for channel in self._channels.values()),
        )
        metrics.gauge(
            "alchat_followers",
            "Open streams that wait for events of an answer.",
            lambda: sum(len(channel.watchers) for channel in self._channels.values()),
        )
        metrics.gauge(
            "alchat_event_log_waiting",
            "Answers with events that wait for the next commit of the event log.",
            lambda: len(self._dirty),
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
                "used_lease": c.lease_id,
            }
            for c in channels
            if c.naming
        ]
        closed = [c for c in channels if c.closed]
        ended = [_ended_row(c) for c in closed]
        owed = [row for c in closed for row in outbox_rows(c.run_id, c.spent.uses)]

        # A first word waits for nothing that is not shown.
        written = [c for c in channels if c.entries and (c.closed or not c.first_at)]
        entries = [entry for c in written for entry in c.entries]
        entries += [
            # An answer that goes on is there already, up to where it broke off.
            Entry(c.conversation_id, c.message_id, row["new_content"], new=c.fresh)
            for c, row in zip(closed, ended, strict=True)
        ]

        changes: list[Change] = [
            (_INSERT_EVENT, events),
            (_START_RUN, names),
            (_END_RUN, ended),
            (_STORE_ANSWER, ended),
            (_TOUCH, _touched(ended)),
            (ADD_TO_OUTBOX, owed),
        ]
        changes = [(many, rows) for many, rows in changes if rows]
        if self._database.direct is None:

            def unit(connection: Connection) -> None:
                for many, rows in changes:
                    many.run(connection, *rows)
                put(connection, entries)

            await self._database.write(unit)
        else:
            changes += await index_changes(self._database.direct, entries)
            # Each commit lasts through the end of this process. The disk is waited for once an
            # answer has ended, with all of its text; SQLite's commits wait for it at no time.
            await self._database.direct.commit(changes, lasting=bool(closed))
        for channel in channels:
            channel.settled = channel.closed
        for channel in written:
            channel.entries = ()
        if owed:
            self._tell_spent()


def _touched(ended: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row for each conversation: of several answers to one question that end together, one
    statement over all of them would take any, and one that was only compared has no model to give.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for row in ended:
        known = found.get(row["conversation"], row)
        found[row["conversation"]] = {
            **row,
            "good_model": row["good_model"] or known["good_model"],
        }
    return list(found.values())


def _ended_row(channel: _Channel) -> dict[str, Any]:
    assert channel.ending is not None  # noqa: S101 - `closed` means that there is one
    data = channel.ending.data
    completed = channel.ending.state == "completed"
    return {
        "run": channel.run_id,
        "message": channel.message_id,
        "conversation": channel.conversation_id,
        "now": now_ms(),
        "last": channel.number,
        "new_state": channel.ending.state,
        "new_error": data if channel.ending.state == "failed" else None,
        "good_model": channel.model if completed and not channel.aside else None,
        **channel.spent.columns(),
        "used_model": channel.model,
        "used_id": channel.credential_id,
        "used_type": channel.credential_type,
        "new_content": "".join(channel.answer),
        "new_reasoning": "".join(channel.reasoned) or None,
        "new_reasoning_ms": round(channel.thought_seconds * 1000) if channel.reasoned else None,
    }
