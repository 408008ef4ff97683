"""Asks the model for a conversation's title after its first answer, in the background.

Until then, and wherever that fails, the first words of the first message are the title. A title
that a user gave is never changed, and a temporary conversation gets none. The request borrows the
key like any answer, under a run id of its own in Papita's record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import unicodedata

from sqlalchemy import bindparam, exists, func, select, update
from sqlalchemy.engine import Connection

from alchat_core.conversations.search import Entry, put
from alchat_core.credential_manager import CredentialManager
from alchat_core.db.engine import Database
from alchat_core.db.tables import conversations, messages, runs
from alchat_core.errors import RunError
from alchat_core.ids import new_id, now_ms
from alchat_core.logs import describe
from alchat_core.metrics import Metrics
from alchat_core.providers.openai_compatible import Answer, Provider, Thought
from alchat_core.providers.parameters import sent_as
from alchat_core.runs.live import Live
from alchat_core.runs.watch import LoanWatch
from alchat_core.settings import Settings
from alchat_core.usage.outbox import Ledger
from alchat_core.usage.spent import Use, counted

log = logging.getLogger(__name__)

# From the end of the answer, whatever it waits for.
TITLE_SECONDS = 30.0
# Answers go before: of many conversations that begin at once only some are named at a time.
AT_ONCE = 16
# What of question and answer the model gets to read, in characters each.
EXCERPT = 1500
MAX_TITLE = 60
# A model that thinks first needs room for it; of what it says no more is read than this.
MAX_TOKENS = 1000
MAX_READ = 2000

PROMPT = (
    "Write a title for the conversation below: at most six words, in the language of the"
    " conversation, on one line, without quotation marks, formatting or a full stop at its end."
    " Answer with the title alone.\n\nUser: {question}\n\nAssistant: {answer}"
)

_COMPLETED = (
    select(func.count())
    .select_from(runs)
    .where(
        runs.c.conversation_id == bindparam("conversation"),
        runs.c.state == "completed",
        runs.c.id != bindparam("this"),
        # An answer beside the first one gives no title, and may have been quicker.
        ~exists().where(messages.c.id == runs.c.message_id, messages.c.beside.is_not(None)),
    )
)
_NAME = (
    update(conversations)
    .where(
        conversations.c.id == bindparam("conversation"),
        conversations.c.owner == bindparam("who"),
        conversations.c.title_origin == "words",
        conversations.c.temporary.is_(False),
        conversations.c.deleted_at.is_(None),
    )
    .values(title=bindparam("new_title"), title_origin="model", updated_at=bindparam("now"))
)

_THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_LEADING = re.compile(r"^(?:[\s#>*\-\u2022]|title\s*[:\uff1a])+", re.IGNORECASE)
_EMPHASIS = re.compile(r"[*`]+")
_QUOTES = frozenset({"Pi", "Pf", "Ps", "Pe"})
# Parts of letters and pictures, although nothing is to be seen of them.
_JOINERS = "\u200c\u200d"


def title_of(text: str) -> str | None:
    """The title in what a model said: one line without markup, of at most 60 characters.

    None if there is none.
    """
    for line in _THOUGHTS.sub("", text).splitlines():
        shown = "".join(sign if sign.isprintable() or sign in _JOINERS else " " for sign in line)
        found = _LEADING.sub("", _EMPHASIS.sub(" ", _LEADING.sub("", shown)))
        found = _unquoted(" ".join(found.split()))
        if any(sign.isalnum() for sign in found):
            break
    else:
        return None
    if len(found) > MAX_TITLE:
        found = found[: MAX_TITLE - 1].rsplit(" ", 1)[0].rstrip(" ,;:.") + "\u2026"
    return found


def _unquoted(title: str) -> str:
    """Without quotation marks around the whole, and without a full stop at the end."""
    while True:
        before = title
        if title.endswith((".", "\u3002")) and title.count(title[-1]) == 1:
            title = title[:-1].rstrip()
        if len(title) > 2 and _quotes(title[0]) and _quotes(title[-1]):
            inner = title[1:-1]
            if title[0] not in inner and title[-1] not in inner:
                title = inner.strip()
        if title == before:
            return title


def _quotes(sign: str) -> bool:
    return sign in "\"'" or unicodedata.category(sign) in _QUOTES


def name(connection: Connection, owner: str, conversation_id: str, title: str) -> bool:
    """Gives the title to a conversation that still has its first words; False if it has not."""
    given = {
        "conversation": conversation_id,
        "who": owner,
        "new_title": title,
        "now": now_ms(),
    }
    if not connection.execute(_NAME, given).rowcount:
        return False
    put(connection, [Entry(conversation_id, None, title)])
    return True


class Titles:
    """Built once per process; `stop()` before the end."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        credentials: CredentialManager,
        provider: Provider,
        watch: LoanWatch,
        metrics: Metrics,
        ledger: Ledger,
    ) -> None:
        self._wanted = settings.alchat_titles
        self._database = database
        self._credentials = credentials
        self._provider = provider
        self._watch = watch
        self._metrics = metrics
        self._ledger = ledger
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._expected: set[str] = set()

    def pending(self, conversation_id: str) -> bool:
        """Whether a title for it is being made, or will be at once."""
        return conversation_id in self._expected

    def expect(self, live: Live) -> bool:
        """To be called before the end of a completed answer is shown, so that no follower sees the
        end without `pending`. True: `begin` has to follow.
        """
        wanted = self._wanted and live.wants_title and live.conversation_id not in self._expected
        if wanted:
            self._expected.add(live.conversation_id)
        return wanted

    def begin(self, live: Live, answer: str) -> None:
        """Asks for the title; `answer` is the text of the answer."""
        conversation_id = live.conversation_id
        task = asyncio.create_task(self._make(live, answer), name=f"title {conversation_id}")
        self._tasks[conversation_id] = task
        task.add_done_callback(lambda _done: self._forget(conversation_id))

    def drop(self, conversation_id: str) -> None:
        """Stops asking; the conversation is deleted, say."""
        task = self._tasks.get(conversation_id)
        if task is not None:
            task.cancel()

    def halt(self, request_id: str) -> None:
        """Stops the request whose loan has ended."""
        for task in self._tasks.values():
            if task.get_name() == request_id:
                task.cancel()

    async def stop(self) -> None:
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _forget(self, conversation_id: str) -> None:
        self._tasks.pop(conversation_id, None)
        self._expected.discard(conversation_id)

    async def _make(self, live: Live, answer: str) -> None:
        outcome, code = "failed", "internal-error"
        try:
            async with asyncio.timeout(TITLE_SECONDS), self._turn:
                outcome, code = await self._try(live, answer), ""
        except RunError as error:
            code = error.code
        except TimeoutError:
            code = "provider-timeout"
        except asyncio.CancelledError:
            outcome, code = "cancelled", ""
            raise
        except Exception as error:  # noqa: BLE001 - a title is not worth more than a line
            log.warning("no title: %s", describe(error))
        finally:
            self._metrics.title_made(outcome, code)
            log.info("title asked for", extra={"outcome": outcome, "code": code or None})

    async def _try(self, live: Live, answer: str) -> str:
        """How it went. Raises `RunError`."""
        if not answer.strip():
            return "empty"
        given = {"conversation": live.conversation_id, "this": live.id}
        # One request in the life of a conversation: where it fails, the first words stay.
        if await self._database.read(lambda connection: connection.scalar(_COMPLETED, given)):
            return "not-first"
        title = title_of(await self._ask(live, answer))
        if title is None:
            return "empty"
        named = await self._database.write(
            lambda connection: name(connection, live.user.id, live.conversation_id, title)
        )
        return "made" if named else "superseded"

    async def _ask(self, live: Live, answer: str) -> str:
        """What the model says."""
        request_id = new_id("title")
        loan = await self._credentials.borrow(live.user, request_id)
        task = asyncio.current_task()
        if task is not None:
            task.set_name(request_id)
        self._watch.begin(request_id, loan)
        model = live.model or ""
        prompt = PROMPT.format(question=live.content[:EXCERPT], answer=answer[:EXCERPT])
        uses: list[Use] = []
        made = Answer()
        pieces = self._provider.stream(
            loan,
            model,
            [{"role": "user", "content": prompt}],
            made,
            sent_as(model, {"maxTokens": MAX_TOKENS}),
        )
        said = ""
        try:
            async with counted(uses, loan, model, made), contextlib.aclosing(pieces):
                async for piece in pieces:
                    if type(piece) is not Thought:
                        said += piece
                    if len(said) > MAX_READ:
                        break
        finally:
            self._watch.end(request_id)
            await self._ledger.file(request_id, uses)
        return said
