"""What one browser tab remembers, typed, and the guard that every page calls first.

Nothing here is a secret for longer than five minutes and nothing has to outlive the tab: what must
last is in a database.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from alchat_core.client import Source, ToolCall
from papita_core.actors import Actor
from papita_core.errors import Unauthenticated
from papita_core.users.preferences import AS_IT_COMES, Appearance
from papita_core.users.sessions import SignInSession
from papita_core.vault.service import TestResult
from portal import wiring
from portal.texts import t

KEY = "papita_tab"
TICKET_SECONDS = 60.0
# How long one run of a script relies on what it has read of its session: most runs are over by
# then, and one that follows an answer looks again.
LOOK_AGAIN_SECONDS = 1.0


@dataclass(slots=True)
class CookieErrand:
    """What the browser has to do about its cookie: trade a ticket for one, or drop it.

    `drafts`: what was typed and not sent is forgotten, too, since the user has logged out.
    """

    number: str
    ticket: str | None = field(default=None, repr=False)
    drafts: bool = False
    until: float = field(default_factory=lambda: time.monotonic() + TICKET_SECONDS)

    @property
    def expired(self) -> bool:
        return time.monotonic() > self.until


@dataclass(slots=True)
class OutgoingFile:
    """A file on its way to AL-Chat: `id` once it is there, `problem` if it is not taken."""

    name: str
    media_type: str
    data: bytes = field(repr=False)
    id: str | None = None
    problem: str = ""
    upload: Future[str] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Unsent:
    """A message that AL-Chat has not taken yet. The key makes sending it twice harmless."""

    conversation_id: str | None
    text: str
    model: str | None
    idempotency_key: str
    problem: str
    code: str
    files: list[OutgoingFile] = field(default_factory=list)
    # Models that are to answer it as well, beside the first one.
    others: tuple[str, ...] = ()


@dataclass(slots=True)
class Following:
    """How far this tab has drawn a run, so that a click elsewhere draws on from there."""

    run_id: str
    last_event: int = 0
    text: str = ""
    thoughts: str = ""
    # When the thinking began, if this tab saw it; and how long it took in all, if it saw all.
    thinking_since: float | None = None
    thought_seconds: float | None = None
    saw_all: bool = True
    calls: list[ToolCall] = field(default_factory=list)
    undecided: set[str] = field(default_factory=set)
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """What is drawn at one place of the chat page, and in which of two kinds of container."""

    drawn: str
    kind: int


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The user of this run: the live session, and the actor that services ask for."""

    session: SignInSession
    actor: Actor

    @property
    def name(self) -> str:
        return self.session.display_name or self.session.username


@dataclass(frozen=True, slots=True)
class Look:
    """The session as one run of a script has read it; `run` is something that only this run has,
    None if whichever is next may rely on it.
    """

    run: object
    at: float
    seen: bool
    found: SignedIn

    def holds(self, session_id: str | None, *, seen: bool) -> bool:
        return (
            (self.run is None or self.run is _this_run())
            and self.found.session.id == session_id
            and (self.seen or not seen)
            and time.monotonic() - self.at < LOOK_AGAIN_SECONDS
        )


@dataclass(slots=True)
class SecondStep:
    """Somebody whose password was right, and who still has to show one of these `kinds`. `method`
    is how they came (`papita_core.users.sessions.METHODS`).
    """

    user_id: str
    username: str
    kinds: tuple[str, ...]
    remember: bool
    until: float
    method: str = "password"

    @property
    def expired(self) -> bool:
        return time.monotonic() > self.until


@dataclass(slots=True)
class Tab:
    """The state of one tab. `following` is by run; `user_id` is whose all of this is. `covered`: a
    dialog stands over the chat page, which another run of the page would close. `rotating`: a
    rotation of the root key was begun or seen here, and its end is to be told. `came_with`: the
    hash of the handle that opened this tab, if it did not sign in or prove anything itself.
    """

    session_id: str | None = None
    came_with: str | None = field(default=None, repr=False)
    user_id: str | None = None
    page_hash: str = ""
    errand: CookieErrand | None = None
    notice: str | None = None
    launching: str | None = None
    dialog_done: bool = False
    forms_closed: int = 0
    model: str | None = None
    models: tuple[str, ...] | None = None
    models_until: float = 0.0
    unsent: Unsent | None = None
    following: dict[str, Following] = field(default_factory=dict)
    starting: bool = False
    sidebar: DeltaGenerator | None = None
    errors: dict[str, dict[str, str]] = field(default_factory=dict)
    tests: dict[str, str] = field(default_factory=dict)
    testing: dict[str, Future[TestResult]] = field(default_factory=dict)
    places: tuple[Place, ...] = ()
    model_of: str | None = None
    covered: bool = False
    rotating: bool = False
    look: Look | None = None
    second_step: SecondStep | None = None

    def follow(self, run_id: str) -> None:
        """From its first event, and nothing else."""
        self.following = {run_id: Following(run_id)}


def tab() -> Tab:
    """The state of the tab that this script runs for."""
    state = st.session_state.get(KEY)
    if not isinstance(state, Tab):
        state = st.session_state[KEY] = Tab()
    return state


def appearance() -> Appearance:
    """How the pages are to look for whoever reads this one; asks nobody."""
    if get_script_run_ctx(suppress_warning=True) is None:
        return AS_IT_COMES
    look = tab().look
    return AS_IT_COMES if look is None else look.found.session.appearance


T = TypeVar("T")


def remembered(kind: type[T]) -> T:
    """What one piece of a page remembers in this tab: the value of its own class, made at first."""
    key = f"{KEY}.{kind.__module__}.{kind.__qualname__}"
    found = st.session_state.get(key)
    if not isinstance(found, kind):
        found = st.session_state[key] = kind()
    return found


def forget(package: str) -> None:
    """What the pieces of this package remember in this tab."""
    for key in [key for key in st.session_state if str(key).startswith(f"{KEY}.{package}.")]:
        del st.session_state[key]


def belongs_to(user_id: str) -> None:
    """Whoever signs in after somebody else in this tab finds nothing of theirs."""
    state = tab()
    if state.user_id not in (None, user_id):
        forget("portal")
        state = st.session_state[KEY] = Tab(state.session_id, state.came_with, errand=state.errand)
    state.user_id = user_id


def address() -> str:
    """The network address of the browser; empty on this machine itself."""
    return st.context.ip_address or ""


def current(*, seen: bool = True) -> SignedIn | None:
    """Who is signed in, read from the database; None if nobody is, or no longer.

    A look that no user has caused says `seen=False`, so that an idle session does end.
    """
    state = tab()
    if state.look is not None and state.look.holds(state.session_id, seen=seen):
        return state.look.found
    sessions = wiring.services().papita.sessions
    session = sessions.by_id(state.session_id, seen=seen) if state.session_id else None
    return None if session is None else looked(session, seen=seen)


def looked(session: SignInSession, *, seen: bool) -> SignedIn:
    """Keeps for the rest of this run what was just read; callbacks are part of the run.

    Rights that were raised in another tab are not those of a tab that the handle of before has
    opened: that handle may have been seen by somebody else.
    """
    came_with = tab().came_with
    if came_with is not None and (session.renewing or session.handle_hash != came_with):
        session = replace(session, proved_at=None)
    found = SignedIn(session, Actor.for_session(session))
    run = _this_run()
    tab().look = None if run is None else Look(run, time.monotonic(), seen, found)
    return found


def keep_look() -> None:
    """For a callback that has a part of the page drawn and nothing else: that is still the same
    click, and relies on the same look.
    """
    state = tab()
    if state.look is not None:
        state.look = replace(state.look, run=None)


def _this_run() -> object:
    context = get_script_run_ctx(suppress_warning=True)
    return None if context is None else context.cursors


def require_user(capability: str, *, seen: bool = True) -> SignedIn:
    """The first line of every page and fragment: nobody gets past it who may not."""
    user = current(seen=seen)
    if user is None:
        if tab().session_id is not None:
            st.rerun(scope="app")
        st.info(t("Sign in first: open the portal's start page."), icon=":material/lock:")
        st.stop()
    if not user.actor.may(capability):
        st.error(t("You may not open this page. Ask an administrator if you need to."))
        st.stop()
    return user


def actor(*, seen: bool = True) -> Actor:
    """Whoever is signed in, for callbacks. Raises `Unauthenticated`."""
    user = current(seen=seen)
    if user is None:
        raise Unauthenticated
    return user.actor
