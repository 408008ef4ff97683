"""Draws a conversation and follows the run that is going on in it.

Nothing is generated here: the answer is AL-Chat's, this is one of its readers. A click, a reload
or a second tab just follows again. What goes wrong stands where the answer would, with a next step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from alchat_core.client import (
    AlChatError,
    AlChatProblem,
    AlChatUnreachable,
    Conversation,
    Follower,
    Message,
    UserClient,
)
from alchat_core.client import NotFound as NotThere
from papita_core.credential_types import meets
from papita_core.errors import PapitaError, Unauthenticated
from portal import navigation, wiring
from portal.blocks import BlockSplitter, split
from portal.brand import show_mark
from portal.credential_form import add_credential, replace_credential
from portal.frame import page_sidebar
from portal.project_cards import ask_consent, start_with_progress
from portal.session import Following, Place, SignedIn, Unsent, actor, current, tab
from portal.words import plain, typed

PAGE = "al-chat"
QUERY = "conversation"
INPUT = "al_chat_input"
MODEL = "al_chat_model"
FRAME_SECONDS = 0.05
WAIT_SECONDS = 0.25
CHECK_SECONDS = 5.0
# A page that was just opened is still loading what it needs to draw code or tables. Updates that
# come faster than it can finish put it off for as long as React lets them: five seconds.
SETTLE_SECONDS = 0.8
# A block that has grown long is redrawn less often, so that its bytes stay in bounds.
BYTES_PER_SECOND = 120_000
MODELS_SECONDS = 300.0
MESSAGES = 60
CONVERSATIONS = 40
CONVERSATIONS_AT_ONCE = 7
CONVERSATIONS_HEIGHT = 250
ACTIVE = ("queued", "running")
AVATARS = {"user": ":material/person:", "assistant": str(wiring.MARK)}

_asking = ThreadPoolExecutor(max_workers=16, thread_name_prefix="al-chat")


@dataclass(frozen=True, slots=True)
class Problem:
    """What a user reads in place of an answer. `code` decides which next steps are offered.

    `begun` says that part of the answer stands above it.
    """

    code: str
    sentence: str
    user_message_id: str | None = None
    begun: bool = False


@dataclass(slots=True)
class View:
    """All that one run of the page draws."""

    conversation_id: str | None
    conversations: Sequence[Conversation] = ()
    messages: Sequence[Message] = ()
    has_earlier: bool = False
    models: Sequence[str] = ()
    problem: Problem | None = None
    conversation: Conversation | None = field(default=None)

    @property
    def active(self) -> Message | None:
        """The answer that is being written, if there is one; it is the last message."""
        last = self.messages[-1] if self.messages else None
        return last if last and last.run and last.run.state in ACTIVE else None

    @property
    def title(self) -> str:
        return (self.conversation.title if self.conversation else None) or "New chat"


def client() -> UserClient:
    """AL-Chat on behalf of whoever is signed in."""
    services = wiring.services()
    who = actor()
    return services.alchat.as_user(
        lambda: services.papita.projects.user_token(who, wiring.AL_CHAT).token
    )


# --- reading ---


def load() -> View:
    """Asks AL-Chat for everything the page shows, in parallel."""
    state = tab()
    view = View(st.query_params.get(QUERY))
    user = client()
    listing = _asking.submit(user.conversations, limit=CONVERSATIONS)
    models = None
    if time.monotonic() > state.models_until:
        models = _asking.submit(user.models)
    try:
        if view.conversation_id:
            _load_messages(user, view, view.conversation_id)
        view.conversations = listing.result().items
        known = [item for item in view.conversations if item.id == view.conversation_id]
        if view.conversation_id and view.problem is None:
            view.conversation = known[0] if known else user.conversation(view.conversation_id)
    except (AlChatError, PapitaError) as error:
        view.problem = problem_of(error)
    if models is not None:
        try:
            state.models = models.result()
            state.models_until = time.monotonic() + MODELS_SECONDS
        except (AlChatError, PapitaError):
            # The answer will say what is wrong; a list of models is not worth a message.
            state.models_until = time.monotonic() + CHECK_SECONDS
    view.models = state.models or ()
    return view


def _load_messages(user: UserClient, view: View, conversation_id: str) -> None:
    wanted = max(MESSAGES, tab().messages_shown)
    try:
        page = user.messages(conversation_id, limit=wanted)
    except NotThere:
        view.problem = Problem("conversation-missing", "This conversation does not exist any more.")
        return
    view.messages = page.items
    view.has_earlier = page.next_cursor is not None


def problem_of(error: AlChatError | PapitaError) -> Problem:
    """The sentence and the code of an error of AL-Chat's client or of Papita."""
    if isinstance(error, AlChatUnreachable):
        return Problem("alchat-unreachable", "AL-Chat does not answer. Start it, then go on.")
    if isinstance(error, AlChatProblem):
        return Problem(error.code, error.detail)
    if isinstance(error, PapitaError):
        return Problem(error.code, str(error))
    return Problem("internal-error", "AL-Chat could not do that. Try again.")


# --- what the user does (callbacks) ---


def send() -> None:
    """Takes what was typed into the input."""
    text = str(st.session_state.get(INPUT) or "").strip()
    if text:
        _send(Unsent(st.query_params.get(QUERY), text, chosen_model(), str(uuid4()), "", ""))


def send_again() -> None:
    """Sends the message that AL-Chat had not taken; if it had after all, nothing is doubled."""
    unsent = tab().unsent
    if unsent is not None:
        _send(unsent)


def _send(message: Unsent) -> None:
    state = tab()
    state.unsent = None
    try:
        user = client()
        if message.conversation_id is None:
            message.conversation_id = user.create_conversation().id
            st.query_params[QUERY] = message.conversation_id
        sent = user.send(
            message.conversation_id,
            message.text,
            model=message.model,
            idempotency_key=message.idempotency_key,
        )
        state.following = Following(sent.run_id)
    except (AlChatError, PapitaError) as error:
        problem = problem_of(error)
        message.problem, message.code = problem.sentence, problem.code
        state.unsent = message


def discard_unsent() -> None:
    tab().unsent = None


def try_again(user_message_id: str) -> None:
    """Another answer to the same message."""
    try:
        sent = client().retry(user_message_id, model=chosen_model())
        tab().following = Following(sent.run_id)
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence


def stop(run_id: str) -> None:
    """Ends a run and with it the provider's stream."""
    try:
        client().cancel(run_id)
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence


def open_conversation(conversation_id: str | None) -> None:
    """Shows a conversation; None begins a new one."""
    state = tab()
    state.following = None
    state.unsent = None
    state.messages_shown = 0
    if conversation_id is None:
        st.query_params.pop(QUERY, None)
    else:
        st.query_params[QUERY] = conversation_id


def show_earlier() -> None:
    tab().messages_shown = max(MESSAGES, tab().messages_shown) + 2 * MESSAGES


def chosen_model() -> str | None:
    """The model of the next message; None leaves the choice to AL-Chat."""
    return st.session_state.get(MODEL) or tab().model


# --- drawing ---


def show_conversations(view: View) -> None:
    """The sidebar: a new chat, and the ones there are, the last used first."""
    with page_sidebar():
        st.button(
            "New chat",
            icon=":material/edit_square:",
            width="stretch",
            key="al_chat_new",
            shortcut="Ctrl+Shift+O",
            on_click=open_conversation,
            args=(None,),
        )
        many = len(view.conversations) > CONVERSATIONS_AT_ONCE
        with st.container(
            gap=None,
            key="al_chat_conversations",
            height=CONVERSATIONS_HEIGHT if many else "content",
            border=False,
        ):
            for conversation in view.conversations:
                here = conversation.id == view.conversation_id
                title = plain(conversation.title or "New chat")
                st.button(
                    f"**{title}**" if here else title,
                    icon=":material/edit_note:" if conversation.active_run_id else None,
                    key=f"al_chat_open_{conversation.id}",
                    type="tertiary",
                    wrap=False,
                    on_click=open_conversation,
                    args=(conversation.id,),
                )


def show_header(view: View) -> bool:
    """Title and menu of the conversation; True while a dialog is open over the page."""
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.subheader(plain(view.title), anchor=False, width="content")
        if view.conversation is None:
            return False
        choice = st.menu_button(
            "Options",
            ("Rename", "Delete"),
            type="tertiary",
            key="al_chat_menu",
        )
    if choice == "Rename":
        _rename(view.conversation)
    elif choice == "Delete":
        _delete(view.conversation)
    return choice is not None


@st.dialog("Rename conversation", on_dismiss="rerun")
def _rename(conversation: Conversation) -> None:
    _close_when_done()
    with st.form("al_chat_rename", border=False):
        st.text_input("Title", value=conversation.title or "", key="al_chat_title", max_chars=200)
        st.form_submit_button(
            "Save", type="primary", on_click=_change, args=(conversation.id, "rename")
        )


@st.dialog("Delete conversation", on_dismiss="rerun")
def _delete(conversation: Conversation) -> None:
    _close_when_done()
    st.markdown(
        f"Delete **{plain(conversation.title or 'New chat')}** with all its messages?"
        " This cannot be undone."
    )
    st.button(
        "Delete",
        type="primary",
        key="al_chat_delete",
        on_click=_change,
        args=(conversation.id, "delete"),
    )


def _close_when_done() -> None:
    if tab().dialog_done:
        tab().dialog_done = False
        st.rerun(scope="app")


def _change(conversation_id: str, what: str) -> None:
    try:
        if what == "delete":
            client().delete_conversation(conversation_id)
            open_conversation(None)
        else:
            title = str(st.session_state.get("al_chat_title") or "").strip()
            if title:
                client().update_conversation(conversation_id, title=title)
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence
    tab().dialog_done = True


def show_composer(view: View) -> None:
    """The input, and below it the model and `Stop`. Their places never change: a draft stays."""
    # Not within `st.bottom`: only where Streamlit puts it itself does the page keep to its end.
    st.chat_input("Message AL-Chat", key=INPUT, on_submit=send)
    with (
        st.bottom,
        st.container(
            horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
        ),
    ):
        _choose_model(view)
        if view.active is not None and view.active.run is not None:
            st.button(
                "Stop",
                icon=":material/stop_circle:",
                key="al_chat_stop",
                on_click=stop,
                args=(view.active.run.id,),
            )


def _choose_model(view: View) -> None:
    state = tab()
    if view.conversation is not None and state.model_of != view.conversation.id:
        # A conversation goes on with its own model; a choice that was made holds until then.
        state.model_of = view.conversation.id
        state.model = view.conversation.model or state.model
        st.session_state.pop(MODEL, None)
    known = list(view.models)
    if state.model and state.model not in known:
        known.insert(0, state.model)
    state.model = st.selectbox(
        "Model",
        known,
        index=known.index(state.model) if state.model in known else (0 if known else None),
        key=MODEL,
        label_visibility="collapsed",
        placeholder="Model",
        accept_new_options=True,
        width=240,
    )


def show_messages(user: SignedIn, view: View) -> DeltaGenerator | None:
    """The history; gives back the place of the answer in motion, if there is one."""
    if tab().starting:
        _start()
    top = st.empty()
    if view.problem is not None:
        with top.container():
            _show_problem(user, view.problem)
    elif not view.messages and tab().unsent is None:
        with top.container():
            _show_welcome(user)
    elif view.has_earlier:
        top.button("Show earlier messages", key="al_chat_earlier", on_click=show_earlier)
    place: DeltaGenerator | None = None
    places = _Places()
    for message in view.messages:
        bubble = places.bubble(message.id, message.role)
        if message is view.active:
            place = bubble
            continue
        with bubble:
            _show_message(user, message, last=message is view.messages[-1])
    _show_unsent(user, places)
    places.clear_the_rest()
    return place


class _Places:
    """One place on the page for each message, remembered from run to run.

    While an answer is being followed the script does not end, and only an ended script takes
    away what is no longer drawn; a container that is drawn again even keeps what was in it. So
    a place has two slots: another message takes the other one and leaves the first one empty.
    """

    def __init__(self) -> None:
        self._before = tab().places
        self._now: list[Place] = []

    def bubble(self, message_id: str, role: str) -> DeltaGenerator:
        number = len(self._now)
        before = self._before[number] if number < len(self._before) else Place(message_id, 0)
        slot = before.slot if before.message_id == message_id else 1 - before.slot
        self._now.append(Place(message_id, slot))
        slots = (st.container(), st.empty()) if slot == 0 else (st.empty(), st.container())
        return slots[slot].chat_message(role, avatar=AVATARS[role])

    def clear_the_rest(self) -> None:
        left = self._before[len(self._now) :]
        for _ in left:
            st.empty()
            st.empty()
        # Remembered until the script has ended for once, since that is what takes them away.
        self._now.extend(Place("", place.slot) for place in left)
        tab().places = tuple(self._now)


def _show_welcome(user: SignedIn) -> None:
    with st.container(horizontal_alignment="center"):
        st.space("large")
        show_mark()
        st.subheader(
            f"What would you like to know, {plain(user.name)}?",
            anchor=False,
            text_alignment="center",
        )
        st.caption(
            "Answers go on while you are away: close this page and come back.",
            text_alignment="center",
        )


def _show_message(user: SignedIn, message: Message, *, last: bool) -> None:
    if message.role == "user":
        st.markdown(typed(message.content))
        return
    # Only the last answer keeps the blocks in which it was drawn: it must not move when it ends.
    for block in split(message.content) if last else [message.content]:
        st.markdown(block)
    state = message.run.state if message.run else "completed"
    if message.error is not None:
        problem = Problem(
            message.error.code, message.error.message, message.parent_id, bool(message.content)
        )
        _show_problem(user, problem, offer=last)
    elif state == "cancelled":
        st.caption(":material/stop_circle: Stopped.")
    elif state == "interrupted":
        sentence = "AL-Chat was stopped while it wrote this answer. What had arrived is kept."
        _show_problem(user, Problem("interrupted", sentence, message.parent_id), offer=last)


def _show_unsent(user: SignedIn, places: _Places) -> None:
    unsent = tab().unsent
    if unsent is None:
        return
    with places.bubble(f"{unsent.idempotency_key}-text", "user"):
        st.markdown(typed(unsent.text))
    with places.bubble(f"{unsent.idempotency_key}-problem", "assistant"):
        _show_problem(user, Problem(unsent.code, unsent.problem), unsent=True)


def _show_problem(
    user: SignedIn, problem: Problem, *, offer: bool = True, unsent: bool = False
) -> None:
    """The sentence, and what can be done about it as buttons."""
    st.error(plain(problem.sentence), icon=":material/error:")
    if not offer:
        return
    key = problem.user_message_id or ("unsent" if unsent else "page")
    with st.container(horizontal=True):
        if problem.code == "alchat-unreachable":
            launcher = wiring.services().launcher
            if launcher.can_start(wiring.AL_CHAT):
                st.button(
                    "Start AL-Chat",
                    icon=":material/play_arrow:",
                    type="primary",
                    key=f"al_chat_start_{key}",
                    on_click=_want_start,
                )
        elif problem.code == "credential-missing":
            if st.button(
                "Add a key", icon=":material/key:", type="primary", key=f"al_chat_key_{key}"
            ):
                add_credential()
        elif problem.code in ("credential-rejected", "credential-expired"):
            if st.button(
                "Replace the key", icon=":material/key:", type="primary", key=f"al_chat_key_{key}"
            ):
                _replace_key(user)
        elif problem.code == "consent-required":
            if st.button(
                "Allow again" if problem.begun else "Allow AL-Chat",
                icon=":material/verified_user:",
                type="primary",
                key=f"al_chat_allow_{key}",
            ):
                project = wiring.services().papita.projects.get(wiring.AL_CHAT)
                ask_consent(project, lambda _: _go_on(problem, unsent=unsent))
        elif problem.code in ("credential-disabled", "budget-exceeded"):
            _link("credentials", "Open credentials", key, primary=True)
        elif problem.code == "project-disabled" and user.actor.may("projects:manage"):
            _link("projects", "Open projects", key, primary=True)
        elif problem.code == "conversation-missing":
            st.button(
                "New chat", key="al_chat_new_instead", on_click=open_conversation, args=(None,)
            )
        if unsent:
            st.button("Send again", icon=":material/send:", key="al_chat_send", on_click=send_again)
            st.button("Discard", key="al_chat_discard", type="tertiary", on_click=discard_unsent)
        elif problem.user_message_id is not None:
            st.button(
                "Try again",
                icon=":material/refresh:",
                key=f"al_chat_again_{key}",
                on_click=try_again,
                args=(problem.user_message_id,),
            )
        elif problem.code not in ("conversation-missing", "consent-required"):
            st.button("Try again", icon=":material/refresh:", key=f"al_chat_reload_{key}")
        if problem.code == "quota-exceeded":
            _link("credentials", "Open credentials", key)


def _link(page: str, label: str, key: str, *, primary: bool = False) -> None:
    kind: Literal["primary", "secondary"] = "primary" if primary else "secondary"
    icon = navigation.entry(page).icon
    if st.button(label, icon=icon, type=kind, key=f"al_chat_{page}_{key}"):
        st.switch_page(navigation.page(page))


def _go_on(problem: Problem, *, unsent: bool) -> None:
    """What failed for want of consent is tried again."""
    if unsent:
        send_again()
    elif problem.user_message_id is not None:
        try_again(problem.user_message_id)


def _want_start() -> None:
    """The next run of the page starts AL-Chat, whichever of its problems it then shows."""
    tab().starting = True


def _start() -> None:
    state = tab()
    state.models_until = 0.0
    problem = start_with_progress(wiring.AL_CHAT, "AL-Chat")
    state.starting = False
    if problem:
        st.error(plain(problem))
        return
    if state.unsent is not None:
        send_again()
    st.rerun()


def _replace_key(user: SignedIn) -> None:
    """The form for the key that failed; where that is not the user's own, the list of keys."""
    papita = wiring.services().papita
    asked = papita.projects.get(wiring.AL_CHAT).credential_types[:1]
    mine = [
        item
        for item in papita.credentials.list(user.actor, limit=200).items
        if item.project_id in (None, wiring.AL_CHAT)
        and any(meets(item.credential_type, kind) for kind in asked)
    ]
    used = papita.grants.which(user.actor, wiring.AL_CHAT).credential
    if used is not None:
        mine = [item for item in mine if item.id == used.id]
    if mine:
        replace_credential(min(mine, key=lambda item: item.project_id is None))
    else:
        st.switch_page(navigation.page("credentials"))


# --- following ---


class BlockWriter:
    """Draws growing text into a container: finished blocks once, the last one again and again."""

    def __init__(self, container: DeltaGenerator) -> None:
        self._container = container
        self._splitter = BlockSplitter()
        self._slot = container.empty()
        self._drawn = ""

    def write(self, text: str) -> None:
        for block in self._splitter.feed(text):
            self._slot.markdown(block)
            self._slot = self._container.empty()
            self._drawn = ""
        if self._splitter.tail != self._drawn:
            self._drawn = self._splitter.tail
            self._slot.markdown(self._drawn)

    @property
    def pause(self) -> float:
        """Seconds until the next drawing is worth its bytes."""
        return max(FRAME_SECONDS, len(self._splitter.tail) / BYTES_PER_SECOND)

    def hint(self, text: str) -> None:
        self._slot.markdown(text)


def show_so_far(message: Message, place: DeltaGenerator) -> None:
    """What this tab has of an answer in motion, without waiting for more."""
    state = tab().following
    if state is not None and message.run is not None and state.run_id == message.run.id:
        BlockWriter(place).write(state.text)


def follow(message: Message, container: DeltaGenerator) -> None:
    """Draws the answer as it is written and runs the page again when it is finished.

    At most a quarter of a second lies between two looks at the session state: that is where a
    click or a closed tab ends this script.
    """
    if message.run is None:
        return
    state = tab()
    settle = 0.0
    if state.following is None or state.following.run_id != message.run.id:
        # An answer that is being continued has a beginning already.
        state.following = Following(message.run.id, text=message.content)
        settle = SETTLE_SECONDS
    following = state.following
    writer = BlockWriter(container)
    if following.text:
        writer.write(following.text)
    else:
        writer.hint(":shimmer[Thinking …]")
    checked = time.monotonic()
    try:
        with client().follow(following.run_id, after=following.last_event) as events:
            while not events.finished:
                arrived = events.wait(timeout=WAIT_SECONDS)
                tab()
                fresh = ""
                for event in arrived:
                    following.last_event = event.id
                    if event.type == "text.delta":
                        fresh += event.data["text"]
                    elif event.type == "run.budget":
                        st.toast(budget_warning(event.data), icon=":material/savings:")
                if fresh:
                    following.text += fresh
                    writer.write(fresh)
                    if not events.finished:
                        _rest(events, max(writer.pause, settle))
                    settle /= 2
                if time.monotonic() - checked > CHECK_SECONDS:
                    checked = time.monotonic()
                    _still_there(quiet=not arrived)
    except (AlChatError, Unauthenticated) as error:
        _broken_off(container, problem_of(error))
        return
    state.following = None
    st.rerun()


def budget_warning(standing: Mapping[str, Any]) -> str:
    """What a user reads when most of a key's budget is spent."""
    which = "today" if standing["period"] == "day" else "this month"
    return plain(
        f"${standing['spentUsd']:,.2f} of the ${standing['limitUsd']:,.2f} budget of your key are"
        f" spent {which}. When all is spent, answers stop until it begins anew or is raised under"
        " Credentials."
    )


def _rest(events: Follower, seconds: float) -> None:
    while seconds > 0:
        events.rest(min(seconds, WAIT_SECONDS))
        seconds -= WAIT_SECONDS
        tab()


def _still_there(*, quiet: bool) -> None:
    if current(seen=False) is None:
        st.rerun()
    if quiet and wiring.services().alchat.health().state == "unreachable":
        raise AlChatUnreachable


def _broken_off(container: DeltaGenerator, problem: Problem) -> None:
    user = current()
    if user is None:
        st.rerun()
    with container:
        _show_problem(user, problem)
