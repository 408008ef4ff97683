"""Answers: started by a message, written by tasks of the service, stopped by an explicit call.

A run outlives the request that started it and every follower. In one conversation one question is
answered at a time, once or several times beside each other; another message meanwhile is refused
with `RunActive`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from alchat_core import logs, telemetry
from alchat_core.attachments.background import background_of
from alchat_core.attachments.prompt import Composer
from alchat_core.attachments.rows import attach, of_message
from alchat_core.attachments.service import AttachmentService
from alchat_core.auth import User
from alchat_core.conversations.models import Run, title_from
from alchat_core.conversations.service import ConversationService
from alchat_core.credential_manager import CredentialManager, Loan
from alchat_core.db.engine import Database, Unit
from alchat_core.db.tables import ACTIVE, idempotency_keys, runs
from alchat_core.errors import (
    InvalidInput,
    NotFound,
    NothingToContinue,
    Refused,
    RunActive,
    RunError,
    ShuttingDown,
    TooManyRunning,
)
from alchat_core.ids import new_id, now_ms
from alchat_core.logs import describe
from alchat_core.metrics import Metrics
from alchat_core.providers.openai_compatible import Provider
from alchat_core.providers.transcribing import for_chat
from alchat_core.runs.answering import Answering
from alchat_core.runs.events import COMPLETED, FAILED, Ending
from alchat_core.runs.live import STOPPED, STOPPED_SHORT, Live, Sent
from alchat_core.runs.log import DatabaseLog
from alchat_core.runs.rows import (
    ADD_MESSAGE,
    BROKEN_OFF,
    KEY,
    LANES,
    OWNED_MESSAGE,
    RUN,
    SCENE,
    Scene,
    add_run,
    check_parameters,
    check_parent,
    digest_of,
    first_beside,
    free_lane,
    mark_interrupted,
    message_row,
    remember,
    replay,
    run_of,
)
from alchat_core.runs.sending import Draft, Sending, entries_of
from alchat_core.runs.titles import Titles
from alchat_core.runs.transcriptions import Transcriptions
from alchat_core.runs.watch import LoanWatch
from alchat_core.settings import Settings
from alchat_core.tools.approvals import Decision
from alchat_core.tools.servers import ToolServerService
from alchat_core.tools.toolbox import Toolbox
from alchat_core.usage.outbox import Ledger
from alchat_core.usage.prices import Listed, Prices

__all__ = ["RunService", "Sent"]

log = logging.getLogger(__name__)

BROKEN_OFF_STATES = frozenset({"interrupted", "cancelled", "failed"})
KEEP_KEYS_MS = 24 * 3600 * 1000
# Of the time for a stop, the part in which answers may still end by themselves.
TIME_TO_END = 0.5


class RunService:
    """Built once per process; `start()` before the first request, `stop()` before the end."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        events: DatabaseLog,
        credentials: CredentialManager,
        provider: Provider,
        attachments: AttachmentService,
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._credentials = credentials
        self._conversations = ConversationService(
            database, undo_minutes=settings.alchat_undo_minutes
        )
        self._attachments = attachments
        self.events = events
        self._live: dict[str, Live] = {}
        metrics = metrics or Metrics()
        self._watch = LoanWatch(credentials, settings.alchat_lease_check_seconds, self._halt)
        self._watch.describe_gauges(metrics)
        servers = ToolServerService(database, limit=settings.alchat_max_tool_servers)
        self.toolbox = Toolbox(settings, database, credentials, servers)
        self._answering = Answering(
            settings,
            database,
            events,
            credentials,
            provider,
            Composer(settings, attachments.files),
            self._watch,
            self.toolbox,
        )
        self._ledger = Ledger(database, credentials, Prices(settings.prices))
        events.when_spent(self._ledger.wake)
        self.titles = Titles(
            settings,
            database,
            credentials,
            provider,
            self._watch,
            metrics,
            self._ledger,
        )
        self.transcriptions = Transcriptions(
            settings, credentials, provider, self._watch, self._ledger, self._answering.known
        )
        self._sending = Sending(
            database,
            self._judge,
            self._room,
            self._ask_for_key,
            self._begin,
            lambda: self._stopping,
        )
        self._stopping = False
        events.if_stuck(lambda run_id: self._halt(run_id, RunError("storage-failed")))

    async def start(self) -> None:
        """Marks what an earlier process left unfinished as interrupted, with all its text."""

        def unit(connection: Connection) -> int:
            left = connection.execute(select(runs.c.id, runs.c.message_id).where(ACTIVE)).all()
            for run_id, message_id in left:
                mark_interrupted(connection, run_id, message_id)
            connection.execute(
                delete(idempotency_keys).where(
                    idempotency_keys.c.created_at < now_ms() - KEEP_KEYS_MS
                )
            )
            return len(left)

        found = await self._database.write(unit)
        if found:
            log.warning("%d answers were interrupted by the last stop", found)
        self._ledger.start()

    async def stop(self, seconds: float) -> None:
        """No new runs; running ones end, or are marked interrupted, within `seconds`."""
        self._stopping = True
        await self._sending.settle()
        left = {live.task for live in self._live.values() if live.task is not None}
        if left:
            _, left = await asyncio.wait(left, timeout=seconds * TIME_TO_END)
        self._watch.stop()
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=seconds * (1 - TIME_TO_END))
        await self.toolbox.stop()
        await self.titles.stop()
        await self.transcriptions.stop()
        await self._ledger.stop()

    @property
    def stopping(self) -> bool:
        """Whether no new run is taken."""
        return self._stopping

    def expect(self, owner: str, conversation_id: str) -> None:
        """The conversation is new, so its first message will be answered: its key is asked for
        before anybody has looked.
        """
        self._sending.free(owner, conversation_id)

    async def send(
        self,
        user: User,
        conversation_id: str,
        content: str,
        *,
        model: str | None = None,
        parameters: dict[str, Any] | None = None,
        parent_id: str | None = None,
        attachments: Sequence[str] = (),
        first: bool = False,
        key: str | None = None,
    ) -> Sent:
        """Stores a message and starts the answer to it; both end the active branch from now on.

        It follows the answer `parent_id`, or none at all if it is the `first`, beside the first
        message that is there; without either, the end of the active branch.
        `attachments` are ids of files of the user.
        The same `key` with the same request gives the same answer again. Raises `NotFound`,
        `RunActive`, `TooManyRunning`, `InvalidInput`, `KeyReused`, `ShuttingDown`.
        """
        place = "" if first else parent_id
        run_id, digest = new_id("run"), ""
        if key:
            digest = digest_of(
                "send", conversation_id, content, model, place, *attachments, parameters=parameters
            )

        loan = None
        if not attachments:
            draft = Draft(
                *(user, conversation_id, content, run_id, model, parameters),
                *(parent_id, first, key, digest),
            )
            outcome = await self._sending.send(draft)
            if isinstance(outcome, Sent):
                return outcome
            loan = outcome.loan

        def unit(connection: Connection) -> Live:
            scene = self._scene(connection, user.id, conversation_id)
            if parent_id is not None:
                check_parent(connection, conversation_id, parent_id)
            now = now_ms()
            live = Live(
                id=run_id,
                user=user,
                conversation_id=conversation_id,
                user_message_id=new_id("msg"),
                message_id=new_id("msg"),
                content=content,
                parent_id=None if first else parent_id or scene.leaf,
                model=model or scene.model,
                parameters=parameters,
                **scene.carried,
            )
            check_parameters(live.model, parameters)
            question = message_row(live, live.user_message_id, live.parent_id, "user", content, now)
            answer = message_row(live, live.message_id, live.user_message_id, "assistant", "", now)
            ADD_MESSAGE.run(connection, question, answer)
            add_run(connection, live, scene.title or title_from(content), now)
            live.attachments = attach(
                connection, user.id, conversation_id, live.user_message_id, attachments
            )
            live.entries = entries_of(live, titled=bool(scene.title))
            return live

        if loan is None:
            loan = await self._foresee(user, conversation_id, run_id, key)
        return await self._launch(_once(user, key, digest, unit), loan)

    async def retry(
        self,
        user: User,
        message_id: str,
        *,
        model: str | None = None,
        parameters: dict[str, Any] | None = None,
        beside: bool = False,
        key: str | None = None,
    ) -> Sent:
        """One more answer to a message of the user.

        `beside`: it is compared with the answer that ends the active branch, which stays the active
        one, and is written at the same time as others to this question. Where the active branch
        ends elsewhere there is nothing to compare with, and the branch moves as without it.
        """
        how = ("retry", "beside") if beside else ("retry",)
        digest = digest_of(*how, message_id, model, parameters=parameters) if key else ""

        def unit(connection: Connection) -> Live:
            row = connection.execute(OWNED_MESSAGE, {"message": message_id, "who": user.id}).first()
            if row is None:
                raise NotFound
            conversation_id, role, content, parent_id = row
            if role != "user":
                raise InvalidInput("Only a message of the user can be answered again.")
            scene = self._scene(
                connection, user.id, conversation_id, message_id if beside else None
            )
            first = first_beside(connection, scene.leaf, message_id) if beside else None
            if first is not None:
                scene = scene._replace(wants_title=False)
            now = now_ms()
            live = Live(
                id=new_id("run"),
                user=user,
                conversation_id=conversation_id,
                user_message_id=message_id,
                message_id=new_id("msg"),
                content=content,
                parent_id=parent_id,
                model=model or scene.model,
                parameters=parameters,
                attachments=of_message(connection, message_id),
                beside=first,
                **scene.carried,
            )
            check_parameters(live.model, parameters)
            answer = message_row(live, live.message_id, message_id, "assistant", "", now)
            ADD_MESSAGE.run(connection, answer)
            title = scene.title or title_from(content)
            stay = scene.leaf if first is not None else None
            add_run(connection, live, title, now, lane=scene.lane, stay=stay)
            return live

        return await self._launch(_once(user, key, digest, unit))

    async def go_on(
        self,
        user: User,
        message_id: str,
        *,
        model: str | None = None,
        parameters: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> Sent:
        """A new run for an answer that was broken off: its text is appended to what is kept.

        Raises `NothingToContinue` and what `send` raises.
        """
        digest = digest_of("continue", message_id, model, parameters=parameters) if key else ""

        def unit(connection: Connection) -> Live:
            row = connection.execute(BROKEN_OFF, {"message": message_id, "who": user.id}).first()
            if row is None:
                raise NotFound
            conversation_id, role, kept, used, state, question_id, question, parent_id, *more = row
            cost, calls = more
            scene = self._scene(connection, user.id, conversation_id)
            if role != "assistant":
                raise InvalidInput("Only an answer can be continued.")
            if not kept or question_id is None or state not in BROKEN_OFF_STATES:
                raise NothingToContinue
            now = now_ms()
            live = Live(
                id=new_id("run"),
                user=user,
                conversation_id=conversation_id,
                user_message_id=question_id,
                message_id=message_id,
                content=question,
                parent_id=parent_id,
                model=model or used or scene.model,
                kept=kept,
                usage_before=cost,
                calls=list(calls or ()),
                parameters=parameters,
                attachments=of_message(connection, question_id),
                **scene.carried,
            )
            check_parameters(live.model, parameters)
            add_run(connection, live, scene.title or title_from(question), now)
            return live

        return await self._launch(_once(user, key, digest, unit))

    async def get(self, owner: str, run_id: str) -> Run:
        """Raises `NotFound`."""
        row = await self._database.read(
            lambda connection: connection.execute(RUN, {"wanted": run_id, "who": owner}).first()
        )
        if row is None:
            raise NotFound
        run = run_of(row)
        if run.finished_at is not None:
            return run
        shown = self.events.shown_ending(run_id)
        if shown is not None:
            run = replace(
                run, state=shown.state, error=shown.data if shown.state == "failed" else None
            )
        return replace(run, last_event=self.events.last_number(run_id) or 0)

    async def owned(self, owner: str, run_id: str) -> int | None:
        """The number of the last event of a finished run, None while it is live.

        Raises `NotFound`.
        """
        live = self._live.get(run_id)
        if live is not None and live.user.id == owner and not self.events.ended(run_id):
            return None
        run = await self.get(owner, run_id)
        return run.last_event if run.finished_at is not None else None

    async def cancel(self, owner: str, run_id: str) -> Run:
        """Stops the run and closes the provider's stream; returns when both is done."""
        await self.get(owner, run_id)
        live = self._live.get(run_id)
        if live is not None and live.task is not None:
            live.ending = STOPPED
            live.task.cancel()
            await asyncio.wait([live.task], timeout=self._settings.alchat_stop_timeout)
        return await self.get(owner, run_id)

    async def decide(self, user: User, run_id: str, call_id: str, decision: Decision) -> None:
        """Whether a tool may be called, for a call that waits for that.

        Raises `NotFound`, `CallNotWaiting`.
        """
        await self.get(user.id, run_id)
        await self.toolbox.approvals.decide(user, run_id, call_id, decision)

    async def delete_conversation(self, owner: str, conversation_id: str) -> None:
        """Hides it, stops the answers that are being written in it and tells their followers.

        With time for an undo they are kept as far as they were written; without, all is deleted.
        """
        for_good = await self._conversations.delete(owner, conversation_id)
        self.titles.drop(conversation_id)
        tasks = []
        for live in [one for one in self._live.values() if one.conversation_id == conversation_id]:
            live.ending = STOPPED
            if for_good:
                await self.events.discard(live.id, STOPPED)
            if live.task is not None:
                live.task.cancel()
                tasks.append(live.task)
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.alchat_stop_timeout)
        if for_good:
            await self._attachments.forget(conversation_id)
            await self._conversations.delete_for_good(conversation_id)

    async def drop_user(self, owner: str, conversation_ids: Sequence[str]) -> None:
        """Stops all that is being written for a user, whose conversations these are, and
        tells the followers; nothing more of it is stored.
        """
        for conversation_id in conversation_ids:
            self.titles.drop(conversation_id)
        tasks = []
        for live in [one for one in self._live.values() if one.user.id == owner]:
            live.ending = STOPPED
            await self.events.discard(live.id, STOPPED)
            if live.task is not None:
                live.task.cancel()
                tasks.append(live.task)
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.alchat_stop_timeout)

    async def models(self, user: User) -> tuple[tuple[Listed, ...], str | None]:
        """Models of the user's credential for a chat, the default first; the one that transcribes,
        if there is one. Raises `RunError`.
        """
        base_url, names = await self._answering.models(user)
        listed = await self._ledger.listed(base_url, for_chat(names))
        return listed, self.transcriptions.model(names)

    def _scene(
        self, connection: Connection, owner: str, conversation_id: str, beside: str | None = None
    ) -> Scene:
        """The conversation that may get a new answer, `beside` others to this question or else
        alone. Raises what `send` raises.
        """
        if self._stopping:
            raise ShuttingDown
        row = SCENE.first(connection, {"wanted": conversation_id, "who": owner})
        if row is None:
            raise NotFound
        scene = Scene(*row)
        if beside is not None:
            scene = scene._replace(lane=free_lane(connection, conversation_id, beside))
        self._judge(scene, scene.running, beside=beside is not None)
        if scene.assistant_id is None:
            return scene
        return scene._replace(background=background_of(connection, owner, scene.assistant_id))

    def _judge(self, scene: Scene, running: int, *, beside: bool = False) -> None:
        """Raises what forbids a new answer, where the owner has so many `running`."""
        if scene.active is not None and not beside:
            raise RunActive
        if running >= self._settings.alchat_max_running_answers:
            raise TooManyRunning

    def _room(self, owner: str) -> int:
        running = sum(live.user.id == owner for live in self._live.values())
        return self._settings.alchat_max_running_answers - running

    async def _foresee(
        self, user: User, conversation_id: str, run_id: str, key: str | None
    ) -> asyncio.Task[Loan] | None:
        """Asks for the user's key, where a run will be: Papita works while its rows are stored.

        None where no run can be expected. Whether there will be one, storing it decides: two
        messages at once leave a loan on the record that was never used.
        """

        def unit(connection: Connection) -> bool:
            if key and KEY.rows(connection, {"who": user.id, "used": key}):
                return False
            self._scene(connection, user.id, conversation_id)
            return True

        try:
            if not await self._database.read(unit):
                return None
        except (Refused, SQLAlchemyError):
            return None
        loan = self._ask(user, run_id)
        await asyncio.sleep(0)
        return loan

    def _ask_for_key(self, draft: Draft) -> asyncio.Task[Loan]:
        return self._ask(draft.user, draft.run_id)

    def _ask(self, user: User, run_id: str) -> asyncio.Task[Loan]:
        loan = asyncio.create_task(self._credentials.borrow(user, run_id), name=f"loan-{run_id}")
        # Nobody may come to ask for it, and why it failed.
        loan.add_done_callback(lambda done: done.cancelled() or done.exception())
        return loan

    async def _launch(
        self, unit: Unit[Live | Sent], loan: asyncio.Task[Loan] | None = None
    ) -> Sent:
        """Commits the rows of a run, then starts it."""
        try:
            live = await self._store(unit)
        except BaseException:
            if loan is not None:
                loan.cancel()
            raise
        if isinstance(live, Sent):
            if loan is not None:
                loan.cancel()
            return live
        live.loan = loan
        self._begin(live)
        # The answer begins, and asks for its key, before this one's own answer is put together.
        await asyncio.sleep(0)
        return Sent(live.message_id, live.id, live.user_message_id)

    def _begin(self, live: Live) -> None:
        """The rows of the run are durable."""
        self.events.open(
            live.id,
            live.conversation_id,
            live.message_id,
            live.kept,
            entries=live.entries,
            aside=live.beside is not None,
        )
        self._live[live.id] = live
        live.task = asyncio.create_task(self._write(live), name=live.id)
        live.task.add_done_callback(lambda _done: self._forget(live))

    async def _store(self, unit: Unit[Live | Sent]) -> Live | Sent:
        """Commits the rows of a run. Where somebody else was faster, the next look sees that one's
        row and says what is so; beside each other as many can be faster as there are lanes.
        """
        for _ in range(LANES):
            with contextlib.suppress(IntegrityError):
                return await self._database.write(unit)
        return await self._database.write(unit)

    def _forget(self, live: Live) -> None:
        if live.loan is not None:
            live.loan.cancel()
        self._live.pop(live.id, None)
        self._watch.end(live.id)
        # Beside others that are compared with it, it may not have been the last.
        if all(one.conversation_id != live.conversation_id for one in self._live.values()):
            self._sending.free(live.user.id, live.conversation_id)

    def _halt(self, run_id: str, error: RunError) -> None:
        """Ends a run whose loan has ended, closes the provider's stream and keeps the text."""
        live = self._live.get(run_id)
        if live is not None and live.task is not None and live.ending is STOPPED_SHORT:
            log.info("answer stopped", extra={"runId": run_id, "code": error.code})
            live.ending = Ending(FAILED, error.as_json())
            live.task.cancel()
        if live is None:
            self.titles.halt(run_id)
            self.transcriptions.halt(run_id, error)

    async def _finish(self, live: Live, ending: Ending) -> None:
        """Ends the run, with what all its requests used."""
        spent = await self._ledger.settle(
            live.uses, continued=bool(live.kept), before=live.usage_before
        )
        if ending.type == COMPLETED:
            ending = Ending(COMPLETED, {**ending.data, "usage": spent.usage})
        await self.events.finish(live.id, ending, spent)

    async def _write(self, live: Live) -> None:
        """The life of a run, as one span of a trace."""
        about = {"alchat.run.id": live.id, "gen_ai.conversation.id": live.conversation_id}
        with telemetry.span("run", about) as span:
            ending = await self._live_out(live)
            span.add("alchat.run.outcome", ending.state)
            if ending.type == FAILED:
                span.fail(ending.data["code"])

    async def _live_out(self, live: Live) -> Ending:
        """Whatever happens in a run, it ends with exactly one last event, which comes back."""
        logs.about(runId=live.id, conversationId=live.conversation_id)
        try:
            ending = await self._answering.write(live)
        except RunError as error:
            log.info("answer failed", extra={"runId": live.id, "code": error.code})
            ending = Ending(FAILED, error.as_json())
        except asyncio.CancelledError:
            ending = live.ending
        except Exception as error:  # noqa: BLE001 - the user is told, the log has the place
            log.error("answer failed: %s", describe(error), extra={"runId": live.id})
            ending = Ending(FAILED, RunError("internal-error").as_json())
        named = ending.type == COMPLETED and not self._stopping and self.titles.expect(live)
        answer = self.events.written(live.id) if named else ""
        finished = asyncio.ensure_future(self._finish(live, ending))
        while not finished.done():
            # A second cancel (Stop twice, Stop and shutdown) must not lose the last event.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(finished)
        log.info("answer ended", extra={"outcome": ending.state})
        if named:
            self.titles.begin(live, answer)
        return ending


def _once(user: User, key: str | None, digest: str, unit: Unit[Live]) -> Unit[Live | Sent]:
    """The unit, which a repetition under the same Idempotency-Key does not do again."""

    def keyed(connection: Connection) -> Live | Sent:
        if key and (replayed := replay(connection, user.id, key, digest)):
            return replayed
        live = unit(connection)
        if key:
            remember(connection, live, key, digest, now_ms())
        return live

    return keyed
