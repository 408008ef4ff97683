"""Has recordings turned into text by the user's provider. Nothing of either is kept or logged.

Each request borrows the key like any answer, under an id of its own in Papita's record, and ends
where the loan does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from alchat_core.auth import User
from alchat_core.credential_manager import CredentialManager, Loan
from alchat_core.errors import NoTranscription, Refused, RunError, ShuttingDown, TooManyUploads
from alchat_core.ids import new_id
from alchat_core.providers.openai_compatible import Answer, Provider
from alchat_core.providers.transcribing import Recording, transcriber
from alchat_core.runs.watch import LoanWatch
from alchat_core.settings import Settings
from alchat_core.usage.outbox import Ledger
from alchat_core.usage.spent import Use, counted

log = logging.getLogger(__name__)

AT_ONCE = 3


class Transcriptions:
    """Built once per process; `stop()` before the end. `known` lists the models of a loan."""

    def __init__(
        self,
        settings: Settings,
        credentials: CredentialManager,
        provider: Provider,
        watch: LoanWatch,
        ledger: Ledger,
        known: Callable[[Loan], Awaitable[Sequence[str]]],
    ) -> None:
        self._model = settings.alchat_transcription_model
        self._credentials = credentials
        self._provider = provider
        self._watch = watch
        self._ledger = ledger
        self._known = known
        self._sending: Counter[str] = Counter()
        self._tasks: dict[str, asyncio.Task[str]] = {}
        self._ends: dict[str, RunError | Refused] = {}

    def model(self, models: Sequence[str]) -> str | None:
        """The model that transcribes where these are known, if there is one."""
        return self._model or transcriber(models)

    @contextmanager
    def turn(self, owner: str) -> Iterator[None]:
        """Around the whole of a request, its upload included. Raises `TooManyUploads`."""
        if self._sending[owner] >= AT_ONCE:
            raise TooManyUploads
        self._sending[owner] += 1
        try:
            yield
        finally:
            self._sending[owner] -= 1
            if not self._sending[owner]:
                del self._sending[owner]

    async def transcribe(self, user: User, recording: Recording, language: str | None) -> str:
        """What is said in it. Raises `RunError`, `NoTranscription`, `ShuttingDown`."""
        request_id = new_id("transcription")
        code = "internal-error"
        try:
            text = await self._until_the_loan_ends(user, request_id, recording, language)
            code = ""
        except (RunError, Refused) as error:
            code = error.code
            raise
        finally:
            outcome = "failed" if code else "made"
            log.info("transcription asked for", extra={"outcome": outcome, "code": code or None})
        return text

    def halt(self, request_id: str, why: RunError) -> None:
        """Stops the request whose loan has ended."""
        self._end(request_id, RunError(why.code))

    async def stop(self) -> None:
        tasks = tuple(self._tasks.values())
        for request_id in tuple(self._tasks):
            self._end(request_id, ShuttingDown())
        if tasks:
            await asyncio.wait(tasks)

    def _end(self, request_id: str, why: RunError | Refused) -> None:
        task = self._tasks.get(request_id)
        if task is not None:
            self._ends[request_id] = why
            task.cancel()

    async def _until_the_loan_ends(
        self, user: User, request_id: str, recording: Recording, language: str | None
    ) -> str:
        ask = self._ask(user, request_id, recording, language)
        task = self._tasks[request_id] = asyncio.create_task(ask, name=request_id)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            if (why := self._ends.get(request_id)) is not None:
                raise why from None
            raise
        finally:
            self._tasks.pop(request_id, None)
            self._ends.pop(request_id, None)

    async def _ask(
        self, user: User, request_id: str, recording: Recording, language: str | None
    ) -> str:
        loan = await self._credentials.borrow(user, request_id)
        self._watch.begin(request_id, loan)
        uses: list[Use] = []
        try:
            model = self._model or transcriber(await self._known(loan))
            if model is None:
                raise NoTranscription
            made = Answer()
            async with counted(uses, loan, model, made):
                return await self._provider.transcribe(loan, model, recording, made, language)
        finally:
            self._watch.end(request_id)
            await self._ledger.file(request_id, uses, of_text=False)
