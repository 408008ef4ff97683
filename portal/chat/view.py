"""What one run of the chat page shows, asked of AL-Chat in parallel."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import streamlit as st

from alchat_core.client import (
    AlChatError,
    AlChatProblem,
    AlChatUnreachable,
    Conversation,
    Message,
    UserClient,
)
from alchat_core.client import NotFound as NotThere
from papita_core.actors import Actor
from papita_core.errors import PapitaError
from portal import wiring
from portal.chat.choices import Prices, shelf
from portal.chat.shelves import shelves
from portal.chat.window import Window, newest
from portal.session import actor, remembered, tab
from portal.texts import said, t, translated
from portal.turns import turns

QUERY = "conversation"
CHECK_SECONDS = 5.0
MODELS_SECONDS = 300.0
# So many are listed at first, some more than the list has room for: each is work for the browser,
# at every page. The others come as one scrolls to them.
CONVERSATIONS = 20
# A user token holds for five minutes; asked for once a second, a project that is switched off is
# not called any more.
TOKEN_SECONDS = 1.0
ACTIVE = ("queued", "running")

T = TypeVar("T")

_asking = ThreadPoolExecutor(max_workers=16, thread_name_prefix="al-chat")


@dataclass(frozen=True, slots=True)
class Problem:
    """What a user reads in place of an answer. `code` decides which next steps are offered.

    `begun` says that part of the answer stands above it; it is the message `message_id`, which
    can be continued. `answer_id` is that of the answer in any case; before `wait_until`, a time
    of `time.time()`, it makes no sense to try again. `beside` is the model of an answer that
    stands beside others, `recording` the key of one that was not transcribed.
    """

    code: str
    sentence: str
    user_message_id: str | None = None
    begun: bool = False
    message_id: str | None = None
    answer_id: str | None = None
    wait_until: float = 0.0
    beside: str | None = None
    recording: str | None = None


@dataclass(slots=True)
class View:
    """All that one run of the page draws. `compared` are the answers, the last message among them,
    that stand side by side at the end.
    """

    conversation_id: str | None
    conversations: Sequence[Conversation] = ()
    messages: Sequence[Message] = ()
    has_earlier: bool = False
    models: Sequence[str] = ()
    problem: Problem | None = None
    conversation: Conversation | None = field(default=None)
    compared: Sequence[Message] = ()

    @property
    def writing(self) -> list[Message]:
        """The answers that are being written: the last message, or several to its question."""
        end = self.compared or self.messages[-1:]
        return [one for one in end if one.run and one.run.state in ACTIVE]

    @property
    def active(self) -> Message | None:
        """An answer that is being written, if there is one."""
        return next(iter(self.writing), None)

    @property
    def shown(self) -> list[Message]:
        """All messages on the page: the earlier ones that were loaded, and the end."""
        end = [*self.messages[:-1], *self.compared] if self.compared else self.messages
        return [*remembered(Window).earlier(), *end]

    def message(self, message_id: str | None) -> Message | None:
        """The message of that id, if it is on the page."""
        return next((one for one in self.shown if one.id == message_id), None)

    @property
    def title(self) -> str:
        return (self.conversation.title if self.conversation else None) or t("New chat")


class Tokens:
    """The user tokens of one tab: the calls of one moment share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[Actor, str, float] | None = None

    def get(self, who: Actor) -> str:
        """From any thread. Raises what `ProjectService.user_token` raises."""
        with self._lock:
            if self._kept is not None:
                owner, token, until = self._kept
                if owner == who and time.monotonic() < until:
                    return token
                self._kept = None
            token = wiring.services().papita.projects.user_token(who, wiring.AL_CHAT).token
            self._kept = who, token, time.monotonic() + TOKEN_SECONDS
            return token


def client(*, seen: bool = True) -> UserClient:
    """AL-Chat on behalf of whoever is signed in; `seen=False` for a look that nobody has caused."""
    who, tokens = actor(seen=seen), remembered(Tokens)
    return wiring.services().alchat.as_user(lambda: tokens.get(who))


def load() -> View:
    """Asks AL-Chat for everything the page shows, in parallel."""
    state = tab()
    view = View(st.query_params.get(QUERY))
    user = client()
    lists = shelves()
    listing = _asking.submit(user.conversations, limit=CONVERSATIONS, **lists.filters)
    sorts = [_asking.submit(user.folders), _asking.submit(user.tags)] if lists.stale else None
    alone = None
    if view.conversation_id and view.conversation_id not in {one.id for one in lists.first}:
        alone = _asking.submit(user.conversation, view.conversation_id)
    models = None
    if time.monotonic() > state.models_until:
        models = _asking.submit(user.model_list)
    assistants = _asking.submit(user.assistants) if shelf().stale else None
    try:
        if view.conversation_id:
            _load_messages(user, view, view.conversation_id)
        lists.put_first(_answer(listing))
        view.conversations = lists.first
        known = [item for item in view.conversations if item.id == view.conversation_id]
        if view.conversation_id and view.problem is None:
            if known:
                view.conversation = known[0]
            elif alone is not None:
                view.conversation = _answer(alone)
            else:
                view.conversation = user.conversation(view.conversation_id)
    except (AlChatError, PapitaError) as error:
        view.problem = problem_of(error)
    if sorts is not None:
        with contextlib.suppress(AlChatError, PapitaError):
            lists.put_folders(_answer(sorts[0]), _answer(sorts[1]))
    if models is not None:
        try:
            prices = remembered(Prices)
            prices.put(_answer(models))
            state.models = tuple(prices.models)
            state.models_until = time.monotonic() + MODELS_SECONDS
        except (AlChatError, PapitaError):
            # The answer will say what is wrong; a list of models is not worth a message.
            state.models_until = time.monotonic() + CHECK_SECONDS
    view.models = state.models or ()
    if assistants is not None:
        try:
            shelf().put(_answer(assistants).items)
        except (AlChatError, PapitaError):
            shelf().until = time.monotonic() + CHECK_SECONDS
    return view


def _answer(asked: Future[T]) -> T:
    if asked.done():
        return asked.result()
    with turns.pause():
        return asked.result()


def _load_messages(user: UserClient, view: View, conversation_id: str) -> None:
    try:
        view.messages = newest(user, conversation_id)
    except NotThere:
        sentence = t("This conversation does not exist any more.")
        view.problem = Problem("conversation-missing", sentence)
        return
    view.has_earlier = bool(view.messages) and view.messages[0].parent_id is not None
    if view.messages and view.messages[-1].compared_with:
        view.compared = user.comparison(view.messages[-1].id)


def problem_of(error: AlChatError | PapitaError) -> Problem:
    """The sentence and the code of an error of AL-Chat's client or of Papita."""
    if isinstance(error, AlChatUnreachable):
        return Problem("alchat-unreachable", t("AL-Chat does not answer. Start it, then go on."))
    if isinstance(error, AlChatProblem):
        return Problem(error.code, translated(error.detail))
    if isinstance(error, PapitaError):
        return Problem(error.code, said(error))
    return Problem("internal-error", t("AL-Chat could not do that. Try again."))
