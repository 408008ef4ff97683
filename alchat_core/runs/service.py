"""Answers: started by a message, written by tasks of the service, stopped by an explicit call.

A run outlives the request that started it and every follower. In one conversation one answer is
written at a time; a second message meanwhile is refused with `RunActive`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import bindparam, delete, func, insert, literal, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from alchat_core.auth import User
from alchat_core.conversations.models import Run, title_from
from alchat_core.conversations.service import ConversationService, path
from alchat_core.credential_manager import CredentialManager, Loan
from alchat_core.db.engine import Database, Unit
from alchat_core.db.tables import (
    ACTIVE,
    conversations,
    idempotency_keys,
    messages,
    run_events,
    runs,
)
from alchat_core.errors import (
    InvalidInput,
    KeyReused,
    NotFound,
    RunActive,
    RunError,
    ShuttingDown,
    TooManyRunning,
)
from alchat_core.ids import new_id, now_ms
from alchat_core.logs import describe
from alchat_core.providers.openai_compatible import Answer, Provider
from alchat_core.runs.events import CANCELLED, COMPLETED, FAILED, INTERRUPTED, Ending
from alchat_core.runs.log import DatabaseLog
from alchat_core.runs.watch import LoanWatch
from alchat_core.settings import Settings

log = logging.getLogger(__name__)

MAX_HISTORY = 2000
CROWD = 16
NAP_PER_RUN_SECONDS = 0.0002
MAX_NAP_SECONDS = 0.02
KEEP_KEYS_MS = 24 * 3600 * 1000
KEEP_MODELS_MS = 300 * 1000


@dataclass(frozen=True, slots=True)
class Sent:
    """`message_id` is the assistant's message, `run_id` the run that writes it."""

    message_id: str
    run_id: str


_INTERRUPTED = Ending(INTERRUPTED, {})
_CANCELLED = Ending(CANCELLED, {})


@dataclass(slots=True)
class _Live:
    """A run that this process is writing. `ending` is what a cancel of its task means."""

    id: str
    user: User
    conversation_id: str
    message_id: str
    user_message_id: str
    content: str
    parent_id: str | None
    model: str | None
    task: asyncio.Task[None] | None = None
    ending: Ending = _INTERRUPTED


_newest = (
    select(messages.c.id)
    .where(messages.c.conversation_id == conversations.c.id)
    .order_by(messages.c.id.desc())
    .limit(1)
    .correlate(conversations)
    .scalar_subquery()
)
_active = (
    select(runs.c.id)
    .where(runs.c.conversation_id == conversations.c.id, ACTIVE)
    .limit(1)
    .correlate(conversations)
    .scalar_subquery()
)
_running = (
    select(func.count())
    .select_from(runs)
    .where(runs.c.owner == bindparam("who"), ACTIVE)
    .scalar_subquery()
)
_SCENE = select(conversations.c.title, conversations.c.model, _newest, _active, _running).where(
    conversations.c.id == bindparam("wanted"), conversations.c.owner == bindparam("who")
)
_ROLE = select(messages.c.role).where(
    messages.c.id == bindparam("message"), messages.c.conversation_id == bindparam("conversation")
)
_OWNED_MESSAGE = (
    select(messages.c.conversation_id, messages.c.role, messages.c.content, messages.c.parent_id)
    .join(conversations, conversations.c.id == messages.c.conversation_id)
    .where(messages.c.id == bindparam("message"), conversations.c.owner == bindparam("who"))
)
_ADD_MESSAGE = insert(messages)
_ADD_RUN = insert(runs)
_MOVED = (
    update(conversations)
    .where(conversations.c.id == bindparam("conversation"))
    .values(
        title=bindparam("new_title"), updated_at=bindparam("now"), last_message_at=bindparam("now")
    )
)
_KEY = select(
    idempotency_keys.c.digest, idempotency_keys.c.message_id, idempotency_keys.c.run_id
).where(idempotency_keys.c.owner == bindparam("who"), idempotency_keys.c.key == bindparam("used"))
_RUN = select(
    runs.c.id,
    runs.c.conversation_id,
    runs.c.message_id,
    runs.c.user_message_id,
    runs.c.state,
    runs.c.model,
    runs.c.created_at,
    runs.c.finished_at,
    runs.c.last_event,
    runs.c.error,
    runs.c.credential_id,
    runs.c.credential_type,
).where(runs.c.id == bindparam("wanted"), runs.c.owner == bindparam("who"))


class RunService:
    """Built once per process; `start()` before the first request, `stop()` before the end."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        events: DatabaseLog,
        credentials: CredentialManager,
        provider: Provider,
    ) -> None:
        self._settings = settings
        self._database = database
        self._conversations = ConversationService(database)
        self.events = events
        self._credentials = credentials
        self._provider = provider
        self._live: dict[str, _Live] = {}
        self._watch = LoanWatch(credentials, settings.alchat_lease_check_seconds, self._halt)
        self._models: dict[str, tuple[tuple[str, ...], int]] = {}
        self._stopping = False

    async def start(self) -> None:
        """Marks what an earlier process left unfinished as interrupted, with all its text."""

        def unit(connection: Connection) -> int:
            left = connection.execute(select(runs.c.id, runs.c.message_id).where(ACTIVE)).all()
            for run_id, message_id in left:
                _mark_interrupted(connection, run_id, message_id)
            connection.execute(
                delete(idempotency_keys).where(
                    idempotency_keys.c.created_at < now_ms() - KEEP_KEYS_MS
                )
            )
            return len(left)

        found = await self._database.write(unit)
        if found:
            log.warning("%d answers were interrupted by the last stop", found)

    async def stop(self, seconds: float) -> None:
        """No new runs; running ones are marked interrupted, within `seconds`."""
        self._stopping = True
        self._watch.stop()
        tasks = [live.task for live in self._live.values() if live.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def send(
        self,
        user: User,
        conversation_id: str,
        content: str,
        *,
        model: str | None = None,
        parent_id: str | None = None,
        key: str | None = None,
    ) -> Sent:
        """Stores a message and starts the answer to it.

        The same `key` with the same request gives the same answer again. Raises `NotFound`,
        `RunActive`, `TooManyRunning`, `InvalidInput`, `KeyReused`, `ShuttingDown`.
        """
        digest = _digest("send", conversation_id, content, model, parent_id) if key else ""

        def unit(connection: Connection) -> _Live | Sent:
            if key and (replayed := _replay(connection, user.id, key, digest)):
                return replayed
            title, remembered, newest = self._scene(connection, user.id, conversation_id)
            if parent_id is not None:
                _check_parent(connection, conversation_id, parent_id)
            now = now_ms()
            live = _Live(
                id=new_id("run"),
                user=user,
                conversation_id=conversation_id,
                user_message_id=new_id("msg"),
                message_id=new_id("msg"),
                content=content,
                parent_id=parent_id or newest,
                model=model or remembered,
            )
            question = _message_row(
                live, live.user_message_id, live.parent_id, "user", content, now
            )
            answer = _message_row(live, live.message_id, live.user_message_id, "assistant", "", now)
            connection.execute(_ADD_MESSAGE, [question, answer])
            _add_run(connection, live, title or title_from(content), now)
            if key:
                _remember(connection, live, key, digest, now)
            return live

        return await self._launch(unit)

    async def retry(
        self, user: User, message_id: str, *, model: str | None = None, key: str | None = None
    ) -> Sent:
        """One more answer to a message of the user, beside the earlier ones."""
        digest = _digest("retry", message_id, model) if key else ""

        def unit(connection: Connection) -> _Live | Sent:
            if key and (replayed := _replay(connection, user.id, key, digest)):
                return replayed
            row = connection.execute(
                _OWNED_MESSAGE, {"message": message_id, "who": user.id}
            ).first()
            if row is None:
                raise NotFound
            conversation_id, role, content, parent_id = row
            if role != "user":
                raise InvalidInput("Only a message of the user can be answered again.")
            title, remembered, _ = self._scene(connection, user.id, conversation_id)
            now = now_ms()
            live = _Live(
                id=new_id("run"),
                user=user,
                conversation_id=conversation_id,
                user_message_id=message_id,
                message_id=new_id("msg"),
                content=content,
                parent_id=parent_id,
                model=model or remembered,
            )
            connection.execute(
                _ADD_MESSAGE,
                [_message_row(live, live.message_id, message_id, "assistant", "", now)],
            )
            _add_run(connection, live, title or title_from(content), now)
            if key:
                _remember(connection, live, key, digest, now)
            return live

        return await self._launch(unit)

    async def get(self, owner: str, run_id: str) -> Run:
        """Raises `NotFound`."""
        row = await self._database.read(
            lambda connection: connection.execute(_RUN, {"wanted": run_id, "who": owner}).first()
        )
        if row is None:
            raise NotFound
        run = _run(row)
        if run.finished_at is not None:
            return run
        return replace(run, last_event=self.events.last_number(run_id) or 0)

    async def owned(self, owner: str, run_id: str) -> int | None:
        """The number of the last event of a finished run, None while it is live.

        Raises `NotFound`.
        """
        live = self._live.get(run_id)
        if live is not None and live.user.id == owner:
            return None
        run = await self.get(owner, run_id)
        return run.last_event if run.finished_at is not None else None

    async def cancel(self, owner: str, run_id: str) -> Run:
        """Stops the run and closes the provider's stream; returns when both is done."""
        await self.get(owner, run_id)
        live = self._live.get(run_id)
        if live is not None and live.task is not None:
            live.ending = _CANCELLED
            live.task.cancel()
            await asyncio.wait([live.task], timeout=self._settings.alchat_stop_timeout)
        return await self.get(owner, run_id)

    async def delete_conversation(self, owner: str, conversation_id: str) -> None:
        """Stops the answer that is being written in it, tells its followers, deletes all."""
        await self._conversations.delete(owner, conversation_id)
        for live in [one for one in self._live.values() if one.conversation_id == conversation_id]:
            live.ending = _CANCELLED
            await self.events.discard(live.id, _CANCELLED)
            if live.task is not None:
                live.task.cancel()
                await asyncio.wait([live.task], timeout=self._settings.alchat_stop_timeout)

    async def models(self, user: User) -> tuple[str, ...]:
        """Models of the user's credential, the default first. Raises `RunError`."""
        loan = await self._credentials.borrow(user)
        found = await self._provider.models(loan)
        preferred = self._settings.alchat_default_model
        if preferred:
            found = tuple(dict.fromkeys([preferred, *found]))
        self._keep_models(loan, found)
        return found

    def _keep_models(self, loan: Loan, found: tuple[str, ...]) -> None:
        self._models[loan.credential_id] = (found, now_ms() + KEEP_MODELS_MS)
        if len(self._models) > 1000:
            self._models.pop(next(iter(self._models)))

    async def _default_model(self, loan: Loan) -> str:
        if self._settings.alchat_default_model:
            return self._settings.alchat_default_model
        found, until = self._models.get(loan.credential_id, ((), 0))
        if until <= now_ms():
            found = await self._provider.models(loan)
            self._keep_models(loan, found)
        if not found:
            raise RunError(
                "model-not-found",
                "The provider lists no model for your key. Choose a model, then try again.",
            )
        return found[0]

    def _scene(
        self, connection: Connection, owner: str, conversation_id: str
    ) -> tuple[str | None, str | None, str | None]:
        """Title, model and newest message of a conversation that may get a new answer."""
        if self._stopping:
            raise ShuttingDown
        row = (connection.execute(_SCENE, {"wanted": conversation_id, "who": owner})).first()
        if row is None:
            raise NotFound
        title, remembered, newest, active, running = row
        if active is not None:
            raise RunActive
        if running >= self._settings.alchat_max_running_answers:
            raise TooManyRunning
        return title, remembered, newest

    async def _launch(self, unit: Unit[_Live | Sent]) -> Sent:
        """Commits the rows of a run, then starts it."""
        try:
            live = await self._database.write(unit)
        except IntegrityError:
            # Another process was faster: the second look sees its row and says what is so.
            live = await self._database.write(unit)
        if isinstance(live, Sent):
            return live
        self.events.open(live.id, live.conversation_id, live.message_id)
        self._live[live.id] = live
        live.task = asyncio.create_task(self._write(live), name=live.id)
        live.task.add_done_callback(lambda _done: self._forget(live))
        # The answer begins, and asks for its key, before this one's own answer is put together.
        await asyncio.sleep(0)
        return Sent(live.message_id, live.id)

    def _forget(self, live: _Live) -> None:
        self._live.pop(live.id, None)
        self._watch.end(live.id)

    def _halt(self, run_id: str, error: RunError) -> None:
        """Ends a run whose loan has ended, closes the provider's stream and keeps the text."""
        live = self._live.get(run_id)
        if live is not None and live.task is not None and live.ending is _INTERRUPTED:
            log.info("answer stopped", extra={"runId": run_id, "code": error.code})
            live.ending = Ending(FAILED, error.as_json())
            live.task.cancel()

    async def _write(self, live: _Live) -> None:
        """The life of a run: whatever happens in it, it ends with exactly one last event."""
        try:
            ending = await self._answer(live)
        except RunError as error:
            log.info("answer failed", extra={"runId": live.id, "code": error.code})
            ending = Ending(FAILED, error.as_json())
        except asyncio.CancelledError:
            ending = live.ending
        except Exception as error:  # noqa: BLE001 - the user is told, the log has the place
            log.error("answer failed: %s", describe(error), extra={"runId": live.id})
            ending = Ending(FAILED, RunError("internal-error").as_json())
        finished = asyncio.ensure_future(self.events.finish(live.id, ending))
        while not finished.done():
            # A second cancel (Stop twice, Stop and shutdown) must not lose the last event.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(finished)

    async def _answer(self, live: _Live) -> Ending:
        loan = await self._credentials.borrow(live.user, live.id)
        self._watch.begin(live.id, loan)
        model = live.model or await self._default_model(loan)
        prompt = await self._prompt(live)
        self.events.started(live.id, model, loan.credential_id, loan.credential_type)
        answer = Answer()
        room = self._settings.alchat_max_answer_chars
        pieces = self._provider.stream(loan, model, prompt, answer)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                room -= len(piece)
                if room < 0:
                    raise RunError(
                        "provider-error",
                        "The answer became too long and was stopped. What had arrived is kept.",
                        retryable=False,
                    )
                self.events.text(live.id, piece)
                if len(self._live) > CROWD:
                    # What arrives meanwhile is read at once; the log would hold it as long.
                    await asyncio.sleep(min(MAX_NAP_SECONDS, len(self._live) * NAP_PER_RUN_SECONDS))
        return Ending(COMPLETED, {"usage": answer.usage})

    async def _prompt(self, live: _Live) -> list[dict[str, str]]:
        """The branch that ends in the user's message; answers without text are left out."""
        earlier = []
        parent = live.parent_id
        if parent is not None:
            earlier = await self._database.read(
                lambda connection: path(connection, live.conversation_id, parent, MAX_HISTORY)
            )
        prompt = [
            {"role": message.role, "content": message.content}
            for message in earlier
            if message.content
        ]
        prompt.append({"role": "user", "content": live.content})
        return prompt


def _run(row: Sequence[Any]) -> Run:
    return Run(*row)


def _add_run(connection: Connection, live: _Live, title: str, now: int) -> None:
    connection.execute(
        _ADD_RUN,
        {
            "id": live.id,
            "owner": live.user.id,
            "conversation_id": live.conversation_id,
            "message_id": live.message_id,
            "user_message_id": live.user_message_id,
            "state": "queued",
            "model": live.model,
            "created_at": now,
            "finished_at": None,
            "last_event": 0,
            "error": None,
            "usage": None,
            "credential_id": None,
            "credential_type": None,
        },
    )
    connection.execute(
        _MOVED, {"conversation": live.conversation_id, "new_title": title, "now": now}
    )


def _check_parent(connection: Connection, conversation_id: str, parent_id: str) -> None:
    wanted = {"message": parent_id, "conversation": conversation_id}
    if connection.scalar(_ROLE, wanted) != "assistant":
        raise InvalidInput("parentId: name an answer in this conversation.")


def _mark_interrupted(connection: Connection, run_id: str, message_id: str) -> None:
    rows = connection.execute(
        select(run_events.c.number, run_events.c.type, run_events.c.data)
        .where(run_events.c.run_id == run_id)
        .order_by(run_events.c.number)
    )
    written = rows.all()
    text = "".join(orjson.loads(data)["text"] for _, kind, data in written if kind == "text.delta")
    last = (written[-1][0] if written else 0) + 1
    now = now_ms()
    connection.execute(
        insert(run_events).values(run_id=run_id, number=last, type=INTERRUPTED, data="{}")
    )
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(state="interrupted", finished_at=now, last_event=last)
    )
    connection.execute(
        update(messages).where(messages.c.id == message_id).values(content=literal(text))
    )


def _message_row(
    live: _Live, message_id: str, parent_id: str | None, role: str, content: str, now: int
) -> dict[str, Any]:
    return {
        "id": message_id,
        "conversation_id": live.conversation_id,
        "parent_id": parent_id,
        "role": role,
        "content": content,
        "model": None,
        "created_at": now,
    }


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _replay(connection: Connection, owner: str, key: str, digest: str) -> Sent | None:
    row = (connection.execute(_KEY, {"who": owner, "used": key})).first()
    if row is None:
        return None
    if row[0] != digest:
        raise KeyReused
    return Sent(row[1], row[2])


def _remember(connection: Connection, live: _Live, key: str, digest: str, now: int) -> None:
    connection.execute(
        insert(idempotency_keys).values(
            owner=live.user.id,
            key=key,
            digest=digest,
            message_id=live.message_id,
            run_id=live.id,
            created_at=now,
        )
    )
