"""Messages that are sent in the same moment share one look at the database and one commit.

Each is judged and answered by itself: what is refused to one, and a conversation that somebody else
was faster in, changes nothing for the others. In one conversation, and under one Idempotency-Key,
one message is stored at a time. What the shared way does not know - files, an assistant, a row that
was in the way - is left to the caller as `Apart`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from alchat_core.auth import User
from alchat_core.conversations.models import title_from
from alchat_core.conversations.search import Entry
from alchat_core.credential_manager import Loan
from alchat_core.db.engine import Database
from alchat_core.errors import InvalidInput, NotFound, Refused, ShuttingDown
from alchat_core.ids import new_id, now_ms
from alchat_core.runs.live import Live, Sent
from alchat_core.runs.rows import (
    ADD_MESSAGE,
    ADD_RUN,
    KEEP_KEY,
    KEYS,
    MOVED,
    ROLES,
    SCENES,
    Scene,
    check_parameters,
    key_row,
    message_row,
    moved_row,
    run_row,
    sent_before,
)
from sqlkit import Change, Many

AT_ONCE: Final = 128
# So long a message waits for others, where one was stored a moment ago: more are on their way then.
GATHER_SECONDS: Final = 0.003
# Turns of the loop until the request for the keys has left.
TURNS: Final = 4
# So many conversations are remembered in which an answer may begin at once.
FREE: Final = 4096
NOT_AN_ANSWER: Final = "parentId: name an answer in this conversation."


@dataclass(frozen=True, slots=True)
class Apart:
    """It has to be stored by itself. `loan` was asked for already, for this message."""

    loan: asyncio.Task[Loan] | None = None


Outcome = Sent | Apart


@dataclass(slots=True)
class Draft:
    """A message that wants to be sent. With `first` it follows nothing, with a `parent_id` that
    answer, else the end of the active branch; `digest` tells its request from others with this
    `key`.
    """

    user: User
    conversation_id: str
    content: str
    run_id: str
    model: str | None = None
    parameters: dict[str, Any] | None = None
    parent_id: str | None = None
    first: bool = False
    key: str | None = None
    digest: str = ""
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    loan: asyncio.Task[Loan] | None = None


@dataclass(slots=True)
class _Waiting:
    draft: Draft
    outcome: asyncio.Future[Outcome]


@dataclass(slots=True)
class _Found:
    """What the database knows of the drafts, by their places."""

    scenes: Mapping[int, Scene]
    before: Mapping[int, Sequence[Any]]
    roles: Mapping[int, str]


class Sending:
    """Built once per process.

    `judge(scene, running)` raises what forbids a new answer in a conversation, where so many of the
    owner's are being written, and `room(owner)` says how many more are allowed as far as this
    process knows; `ask(draft)` begins to borrow the key; `launch(live)` starts the answer, whose
    rows are durable by then. While `stopping`, none begins.
    """

    def __init__(
        self,
        database: Database,
        judge: Callable[[Scene, int], None],
        room: Callable[[str], int],
        ask: Callable[[Draft], asyncio.Task[Loan]],
        launch: Callable[[Live], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._database = database
        self._judge = judge
        self._room = room
        self._ask = ask
        self._launch = launch
        self._stopping = stopping
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._stored = 0.0
        # Conversations in which an answer ended last, or nothing was written yet, and their owners.
        self._free: OrderedDict[str, str] = OrderedDict()

    def free(self, owner: str, conversation_id: str) -> None:
        """Nothing is being written in this conversation any more, or yet."""
        self._free[conversation_id] = owner
        if len(self._free) > FREE:
            self._free.popitem(last=False)

    async def send(self, draft: Draft) -> Outcome:
        """Stores the message and starts the answer. Raises `Refused` and what the driver does.

        Whoever does not wait for the end stops nothing: what is stored is answered.
        """
        waiting = _Waiting(draft, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._task is None:
            # In a context of its own: what is done here is done for many requests.
            self._task = asyncio.create_task(
                self._work(), name="sending", context=contextvars.Context()
            )
        return await waiting.outcome

    async def settle(self) -> None:
        """Returns when nothing waits any more."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if loop.time() - self._stored < GATHER_SECONDS:
                    await asyncio.sleep(GATHER_SECONDS)
                batch = self._next()
                try:
                    await self._store(batch)
                except Exception as error:  # noqa: BLE001 - each of them is told
                    for one in batch:
                        _fail(one, error)
                self._stored = loop.time()
        finally:
            self._task = None

    def _next(self) -> list[_Waiting]:
        """In the order in which they came, but one per conversation and one per key."""
        batch: list[_Waiting] = []
        later: list[_Waiting] = []
        taken: set[tuple[str, str]] = set()
        for one in self._waiting:
            draft = one.draft
            places = {("", draft.conversation_id)}
            if draft.key:
                places.add((draft.user.id, draft.key))
            # What waits for one that waits must not overtake it either.
            if len(batch) < AT_ONCE and not places & taken:
                batch.append(one)
            else:
                later.append(one)
            taken |= places
        self._waiting = later
        return batch

    async def _store(self, batch: list[_Waiting]) -> None:
        drafts = [one.draft for one in batch]
        try:
            # Papita works meanwhile. Whether there will be an answer, looking and storing decide:
            # somebody faster leaves a loan on the record that was never used.
            await self._borrow(self._expected(drafts))
            decided = self._decide(drafts, await self._look(drafts))
            await self._borrow(
                [
                    draft
                    for draft, live in zip(drafts, decided, strict=True)
                    if isinstance(live, Live) and draft.loan is None
                ]
            )
            await self._commit(_changes(drafts, decided))
        except OperationalError:
            # The database itself does not work: that is so for all of them.
            for draft in drafts:
                if draft.loan is not None:
                    draft.loan.cancel()
            raise
        except Exception:  # noqa: BLE001 - whose fault it was, each finds out by itself
            decided = [Apart(draft.loan) for draft in drafts]
        for one, outcome in zip(batch, decided, strict=True):
            if isinstance(outcome, Refused | Sent) and one.draft.loan is not None:
                one.draft.loan.cancel()
            if isinstance(outcome, Refused):
                _fail(one, outcome)
                continue
            if isinstance(outcome, Live):
                outcome.loan = one.draft.loan
                one.draft.context.run(self._launch, outcome)
                outcome = Sent(outcome.message_id, outcome.id, outcome.user_message_id)
            if not one.outcome.done():
                one.outcome.set_result(outcome)
            elif isinstance(outcome, Apart) and outcome.loan is not None:
                outcome.loan.cancel()

    async def _look(self, drafts: list[Draft]) -> _Found:
        asked = _Asked(drafts)
        direct = self._database.direct
        if direct is not None:
            return asked.found([await direct.rows(many, rows) for many, rows in asked.questions])
        answers = await self._database.read(
            lambda connection: [many.rows(connection, rows) for many, rows in asked.questions]
        )
        return asked.found(answers)

    async def _commit(self, changes: list[Change]) -> None:
        if self._database.direct is not None:
            await self._database.direct.commit(changes)
            return

        def unit(connection: Connection) -> None:
            for many, rows in changes:
                many.run(connection, *rows)

        if changes:
            await self._database.write(unit)

    def _expected(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Those of which an answer is as good as certain, before anybody has looked."""
        found: list[Draft] = []
        more: Counter[str] = Counter()
        for draft in drafts:
            owner = draft.user.id
            free = self._free.pop(draft.conversation_id, None) == owner
            plain = draft.parent_id is None and draft.parameters is None
            if free and plain and not self._stopping() and more[owner] < self._room(owner):
                more[owner] += 1
                found.append(draft)
        return found

    async def _borrow(self, drafts: Sequence[Draft]) -> None:
        """Returns when the request has left."""
        for draft in drafts:
            draft.loan = draft.context.run(self._ask, draft)
        if drafts:
            for _ in range(TURNS):
                await asyncio.sleep(0)

    def _decide(self, drafts: list[Draft], found: _Found) -> list[Live | Outcome | Refused]:
        more: Counter[str] = Counter()
        decided: list[Live | Outcome | Refused] = []
        for place, draft in enumerate(drafts):
            try:
                one = self._one(place, draft, found, more)
            except Refused as refused:
                decided.append(refused)
                continue
            if isinstance(one, Live):
                more[draft.user.id] += 1
            decided.append(one)
        return decided

    def _one(
        self, place: int, draft: Draft, found: _Found, more: Mapping[str, int]
    ) -> Live | Outcome:
        if place in found.before:
            return sent_before(found.before[place], draft.digest)
        if self._stopping():
            raise ShuttingDown
        scene = found.scenes.get(place)
        if scene is None:
            raise NotFound
        self._judge(scene, scene.running + more[draft.user.id])
        if scene.assistant_id is not None:
            return Apart(draft.loan)
        if draft.parent_id is not None and found.roles.get(place) != "assistant":
            raise InvalidInput(NOT_AN_ANSWER)
        live = Live(
            id=draft.run_id,
            user=draft.user,
            conversation_id=draft.conversation_id,
            user_message_id=new_id("msg"),
            message_id=new_id("msg"),
            content=draft.content,
            parent_id=None if draft.first else draft.parent_id or scene.leaf,
            model=draft.model or scene.model,
            parameters=draft.parameters,
            title=scene.title or title_from(draft.content),
            **scene.carried,
        )
        check_parameters(live.model, draft.parameters)
        live.entries = entries_of(live, titled=bool(scene.title))
        return live


def entries_of(live: Live, *, titled: bool) -> tuple[Entry, ...]:
    """What a new question, and the title that is made of it, put into the search index."""
    entries: tuple[Entry, ...] = (
        Entry(live.conversation_id, live.user_message_id, live.content, new=True),
    )
    if not titled:
        entries += (Entry(live.conversation_id, None, title_from(live.content), new=True),)
    return entries


class _Asked:
    """What has to be known of drafts before they can be judged."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.questions: list[tuple[Many, list[dict[str, Any]]]] = [
            (
                SCENES,
                [
                    {"place": place, "wanted": one.conversation_id, "who": one.user.id}
                    for place, one in enumerate(drafts)
                ],
            )
        ]
        keyed = [
            {"place": place, "who": one.user.id, "used": one.key}
            for place, one in enumerate(drafts)
            if one.key
        ]
        following = [
            {"place": place, "message": one.parent_id, "conversation": one.conversation_id}
            for place, one in enumerate(drafts)
            if one.parent_id is not None
        ]
        for many, rows in ((KEYS, keyed), (ROLES, following)):
            if rows:
                self.questions.append((many, rows))

    def found(self, answers: Sequence[Sequence[Any]]) -> _Found:
        by = {
            many: {row[0]: row[1:] for row in rows}
            for (many, _), rows in zip(self.questions, answers, strict=True)
        }
        return _Found(
            {place: Scene(*row) for place, row in by[SCENES].items()},
            by.get(KEYS, {}),
            {place: row[0] for place, row in by.get(ROLES, {}).items()},
        )


def _changes(drafts: Sequence[Draft], decided: Sequence[object]) -> list[Change]:
    now = now_ms()
    new = [
        (draft, live) for draft, live in zip(drafts, decided, strict=True) if isinstance(live, Live)
    ]
    # In one order everywhere, so that two processes never wait for each other.
    new.sort(key=lambda one: one[1].conversation_id)
    told: list[dict[str, Any]] = []
    for draft, live in new:
        asking, asked = live.user_message_id, live.message_id
        told.append(message_row(live, asking, live.parent_id, "user", draft.content, now))
        told.append(message_row(live, asked, asking, "assistant", "", now))
    keys = [key_row(live, draft.key, draft.digest, now) for draft, live in new if draft.key]
    changes: list[Change] = [
        (ADD_MESSAGE, told),
        (ADD_RUN, [run_row(live, now) for _, live in new]),
        (MOVED, [moved_row(live, live.title, now) for _, live in new]),
        (KEEP_KEY, keys),
    ]
    return [(many, rows) for many, rows in changes if rows]


def _fail(one: _Waiting, error: Exception) -> None:
    if not one.outcome.done():
        one.outcome.set_exception(error)
