"""The life of one answer: the key is borrowed, the provider asked, its text written to the log.

Before the first word a failure that may pass is tried again by policy; an answer that the provider
breaks off in the middle is asked for once more from the kept text on. Both stand in the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alchat_core.attachments.models import Turn
from alchat_core.attachments.prompt import Composer
from alchat_core.attachments.rows import Attached, of_conversation
from alchat_core.auth import User
from alchat_core.conversations.models import Message
from alchat_core.conversations.tree import path
from alchat_core.credential_manager import CredentialManager, Loan
from alchat_core.db.engine import Database
from alchat_core.errors import RunError
from alchat_core.ids import now_ms
from alchat_core.providers.backoff import pause_before
from alchat_core.providers.lines import Called
from alchat_core.providers.openai_compatible import Answer, Provider, Thought
from alchat_core.providers.parameters import effective, parameter_refused, refused, sent_as
from alchat_core.providers.transcribing import for_chat
from alchat_core.runs.events import BUDGET, COMPLETED, RETRYING, SEAM, SOURCES, TRIMMED, Ending
from alchat_core.runs.live import Live
from alchat_core.runs.log import DatabaseLog
from alchat_core.runs.rows import CITED
from alchat_core.runs.watch import LoanWatch
from alchat_core.settings import Settings
from alchat_core.tools.models import replayed
from alchat_core.tools.toolbox import UNAVAILABLE, Toolbox, Tools
from alchat_core.usage.spent import counted

log = logging.getLogger(__name__)

MAX_HISTORY = 2000
# About what an image costs of a model's context, as text that would cost as much.
IMAGE_CHARS = 4000
KEEP_MODELS_MS = 300 * 1000

# How a provider is asked for the rest of an answer. What works everywhere is to say so: a message
# of the assistant as the last one is gone on with by some (Anthropic's older models), needs a mark
# of its own at others (Mistral, DeepSeek), starts a new answer at OpenAI, and is an error at more
# and more of them.
GO_ON = (
    "Your last message was cut off. Go on exactly where it stopped, with the very next character:"
    " repeat nothing that is there, add no remark, do not begin anew."
)


class _TooLong(RunError):
    """The answer is longer than may be kept."""

    def __init__(self) -> None:
        super().__init__(
            "provider-error",
            "The answer became too long and was stopped. What had arrived is kept.",
            retryable=False,
        )


@dataclass(slots=True)
class _Work:
    """What an answer has come to: `model` is None until the provider can be asked."""

    live: Live
    loan: Loan
    room: int
    attempt: int = 1
    model: str | None = None
    # What the provider reads before the part of the answer that comes next, which begins after
    # `offset` characters; and how many of its last messages belong to the question.
    base: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0
    keep: int = 1
    tools: Tools | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    begun: bool = False
    left_out: int = 0

    def prompt(self, written: str) -> list[dict[str, Any]]:
        """What to ask, where so much of the answer is there."""
        rest = written[self.offset :]
        return going_on(self.base, rest) if rest else self.base


class Answering:
    """Built once per process."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        events: DatabaseLog,
        credentials: CredentialManager,
        provider: Provider,
        composer: Composer,
        watch: LoanWatch,
        toolbox: Toolbox,
    ) -> None:
        self._settings = settings
        self._database = database
        self._events = events
        self._credentials = credentials
        self._provider = provider
        self._composer = composer
        self._watch = watch
        self._toolbox = toolbox
        self._models: dict[str, tuple[tuple[str, ...], int]] = {}

    async def write(self, live: Live) -> Ending:
        """The whole answer. Raises `RunError`; what was written before it stands."""
        room = self._settings.alchat_max_answer_chars - len(live.kept)
        work = _Work(live, await self._borrow(live), room)
        try:
            while called := await self._round(work):
                await self._play(work, called)
        finally:
            if work.tools is not None:
                work.tools.close()
        # What all requests of the run used is put in where the run ends.
        return Ending(COMPLETED, {"usage": None})

    async def _play(self, work: _Work, called: list[Called]) -> None:
        """Makes the calls that the model asks for, and gets ready to ask it again."""
        assert work.tools is not None  # noqa: S101 - no calls are read where none were offered
        written = self._events.written(work.live.id)
        more = await work.tools.play(called, written[work.offset :], len(written))
        work.base = [*work.base, *more]
        work.keep += len(more)
        work.offset = len(written)
        work.begun, work.attempt = False, 1
        await self._renew(work)

    async def _round(self, work: _Work) -> list[Called]:
        """Asks the provider, again where that makes sense; the tools that are to be called."""
        while True:
            try:
                return await self._ask(work)
            except RunError as error:
                if error.code == "context-too-long" and self._trim(work):
                    continue
                pause = self._pause(work, error)
                if pause is None:
                    raise
                if work.begun:
                    return await self._mend(work, error, pause)
                work.attempt += 1
                self._events.note(
                    work.live.id,
                    RETRYING,
                    {
                        "attempt": work.attempt,
                        "code": error.code,
                        "waitSeconds": round(pause, 3),
                    },
                )
                await self._wait(work, error, pause)

    def _trim(self, work: _Work) -> bool:
        """Leaves the oldest messages out, where that is wanted; False if none could be."""
        if not self._settings.alchat_trim_context or work.begun:
            return False
        shorter = trimmed(work.base, keep=work.keep)
        left_out = len(work.base) - len(shorter)
        if not left_out:
            return False
        work.base = shorter
        work.left_out += left_out
        self._events.note(work.live.id, TRIMMED, {"messagesLeftOut": work.left_out})
        return True

    def _pause(self, work: _Work, error: RunError) -> float | None:
        """Seconds until the provider is asked once more, None if it is not."""
        retries = self._settings.alchat_provider_retries
        if not retries or not error.transient:
            return None
        limit = self._settings.alchat_retry_after_limit
        if work.begun:
            cut = error.code == "provider-cut-off"
            return pause_before(2, error.retry_after, limit) if cut else None
        if work.attempt > retries:
            return None
        return pause_before(work.attempt + 1, error.retry_after, limit)

    async def _mend(self, work: _Work, error: RunError, pause: float) -> list[Called]:
        """Asks once for the rest of an answer that the provider broke off."""
        kept = self._events.written(work.live.id)
        self._events.note(work.live.id, SEAM, {"keptCharacters": len(kept), "code": error.code})
        await self._wait(work, error, pause)
        try:
            return await self._ask(work)
        except _TooLong:
            raise
        except RunError as failed:
            if failed.code == "content-filtered":
                raise
            raise RunError("provider-cut-off") from None

    async def models(self, user: User) -> tuple[str, tuple[str, ...]]:
        """The provider's address and the models there, the default first. Raises `RunError`."""
        loan = await self._credentials.borrow(user)
        found = await self._provider.models(loan)
        preferred = self._settings.alchat_default_model
        if preferred:
            found = tuple(dict.fromkeys([preferred, *found]))
        self._keep_models(loan, found)
        return loan.base_url, found

    async def known(self, loan: Loan) -> tuple[str, ...]:
        """All models of a credential, asked for now and then. Raises `RunError`."""
        found, until = self._models.get(loan.credential_id, ((), 0))
        if until <= now_ms():
            found = await self._provider.models(loan)
            self._keep_models(loan, found)
        return found

    async def _borrow(self, live: Live) -> Loan:
        asked, live.loan = live.loan, None
        loan = await (asked or self._credentials.borrow(live.user, live.id))
        self._watch.begin(live.id, loan)
        return loan

    async def _wait(self, work: _Work, error: RunError, pause: float) -> None:
        """Until the provider may be asked once more, with a loan that holds."""
        log.info("answer is tried again", extra={"runId": work.live.id, "code": error.code})
        await asyncio.sleep(pause)
        await self._renew(work)

    async def _renew(self, work: _Work) -> None:
        """A loan that holds, where the one that was used does not any more."""
        if not work.loan.live:
            work.loan = await self._borrow(work.live)
            self._events.borrowed(work.live.id, work.loan.credential_id, work.loan.credential_type)

    async def _ask(self, work: _Work) -> list[Called]:
        """One request to the provider, its text into the log; the tools that are to be called."""
        live, loan = work.live, work.loan
        if work.model is None:
            model = live.model or await self._default_model(loan)
            work.parameters = effective(model, live.defaults, live.parameters) or {}
            if name := refused(model, work.parameters):
                raise parameter_refused(name)
            unavailable = await self._open_tools(work) if live.tools else []
            sources = await self._prompt(work)
            work.model = live.model = model
            self._events.started(
                live.id, model, loan.credential_id, loan.credential_type, loan.lease_id
            )
            if loan.budget is not None and loan.budget["warning"]:
                self._events.note(live.id, BUDGET, loan.budget)
            for server in unavailable:
                self._events.note(live.id, UNAVAILABLE, server)
            if sources:
                self._events.note(live.id, SOURCES, {"sources": sources})
        answer = Answer()
        parameters = sent_as(work.model, work.parameters)
        if work.tools is not None:
            parameters |= work.tools.request()
        prompt = work.prompt(self._events.written(live.id))
        pieces = self._provider.stream(
            loan, work.model, prompt, answer, parameters, self._events.rest
        )
        async with (
            counted(live.uses, loan, work.model, answer),
            contextlib.aclosing(pieces),
        ):
            async for piece in pieces:
                work.room -= len(piece)
                if work.room < 0:
                    raise _TooLong
                if type(piece) is Thought:
                    self._events.reasoning(live.id, piece)
                else:
                    work.begun = True
                    self._events.text(live.id, piece)
        return answer.calls

    async def _open_tools(self, work: _Work) -> list[dict[str, Any]]:
        """The servers that did not tell their tools."""
        live = work.live
        work.tools, failed = await self._toolbox.open(
            live,
            live.tools,
            lambda kind, data: self._events.note(live.id, kind, data),
            lambda server_id, loan: self._watch.begin(live.id, loan, server_id),
        )
        return failed

    async def _prompt(self, work: _Work) -> list[dict[str, Any]]:
        """Puts the branch that ends in the user's message into `work`; the excerpts of files that
        go with it. Answers without text or calls are left out, and calls where there are no tools:
        most providers would refuse those.
        """
        live, tools = work.live, work.tools is not None
        earlier: list[Message] = []
        files: Attached = {}
        parent = live.parent_id
        if parent is not None:
            earlier, files = await self._database.read(
                lambda connection: (
                    path(connection, live.conversation_id, parent, MAX_HISTORY),
                    of_conversation(connection, live.conversation_id),
                )
            )
        turns = [
            Turn(
                message.role,
                message.content,
                files.get(message.id, ()),
                tuple(message.tool_calls or ()) if tools else (),
            )
            for message in earlier
            if message.content or (message.tool_calls and tools)
        ]
        turns.append(Turn("user", live.content, live.attachments))
        composed = await self._composer.compose(turns, live.background)
        prompt = with_calls(turns, composed.prompt)
        system = "\n\n".join(filter(None, (live.system_prompt, composed.background)))
        if system:
            # OpenAI's newer models call it `developer` and take this name as well; most others
            # know no other.
            prompt.insert(0, {"role": "system", "content": system})
        if composed.sources:
            given = {"message": live.message_id, "found": composed.sources}
            await self._database.write(lambda connection: connection.execute(CITED, given))
        if live.calls and tools:
            more, rest = replayed(live.kept, live.calls)
            prompt += more
            work.keep += len(more)
            work.offset = len(live.kept) - len(rest)
        work.base = prompt
        return composed.sources

    async def _default_model(self, loan: Loan) -> str:
        if self._settings.alchat_default_model:
            return self._settings.alchat_default_model
        found = for_chat(await self.known(loan))
        if not found:
            raise RunError(
                "model-not-found",
                "The provider lists no model for your key. Choose a model, then try again.",
            )
        return found[0]

    def _keep_models(self, loan: Loan, found: tuple[str, ...]) -> None:
        self._models[loan.credential_id] = (found, now_ms() + KEEP_MODELS_MS)
        if len(self._models) > 1000:
            self._models.pop(next(iter(self._models)))


def with_calls(turns: Sequence[Turn], prompt: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The prompt of these turns with the calls of tools and their results where they were made."""
    found: list[dict[str, Any]] = []
    for turn, message in zip(turns, prompt, strict=True):
        if not turn.calls:
            found.append(message)
            continue
        more, rest = replayed(turn.content, turn.calls)
        found += more
        if rest:
            found.append({**message, "content": rest})
    return found


def going_on(prompt: list[dict[str, Any]], kept: str) -> list[dict[str, Any]]:
    """The prompt that asks for what comes after `kept`."""
    return [
        *prompt,
        {"role": "assistant", "content": kept},
        {"role": "user", "content": GO_ON},
    ]


def trimmed(prompt: list[dict[str, Any]], *, keep: int) -> list[dict[str, Any]]:
    """The prompt without the older half of its text: a system prompt stays, and so do the last
    `keep` messages. What is left begins with a message of the user. The same list if that is all.
    """
    first = 1 if prompt and prompt[0]["role"] == "system" else 0
    end = len(prompt) - keep
    half = sum(map(_size, prompt[first:end])) / 2
    cut, gone = first, 0
    while cut < end and (cut == first or gone < half or prompt[cut]["role"] != "user"):
        gone += _size(prompt[cut])
        cut += 1
    return [*prompt[:first], *prompt[cut:]]


def _size(message: dict[str, Any]) -> int:
    """Characters of a message of a prompt."""
    content = message["content"]
    if content is None or isinstance(content, str):
        calls = message.get("tool_calls", ())
        return len(content or "") + sum(len(call["function"]["arguments"]) for call in calls)
    return sum(len(part["text"]) if part["type"] == "text" else IMAGE_CHARS for part in content)
