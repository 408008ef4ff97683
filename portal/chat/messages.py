"""The messages of the conversation, each at a place of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from alchat_core.client import Message
from portal import wiring
from portal.brand import show_mark
from portal.chat.answer import show_answer
from portal.chat.attachments import UPLOADING, show_outgoing
from portal.chat.comparing import show_side_by_side
from portal.chat.dictation import show_recording
from portal.chat.earlier import show_earlier
from portal.chat.exchange import ANSWER, QUESTION, Exchange
from portal.chat.follow import Live, show_that_it_is_written
from portal.chat.markdown import asked
from portal.chat.problems import show_continue, show_problem, start_if_wanted
from portal.chat.queued import queue
from portal.chat.recordings import dictation
from portal.chat.shelves import shelves
from portal.chat.steering import Steering
from portal.chat.toolbar import show_answer_bar, show_question
from portal.chat.view import Problem, View
from portal.chat.window import Window
from portal.page_sessions import whole_page_on_click
from portal.pictures import address
from portal.session import Place, SignedIn, remembered, tab
from portal.texts import t, translated
from portal.words import plain

WELCOME = "al_chat_welcome"
AVATARS = {"user": ":material/person:", "assistant": address(wiring.MARK)}


def show_messages(user: SignedIn, view: View, live: Live) -> None:
    """The history, from its end upwards: that is what is on the screen."""
    start_if_wanted()
    remembered(Steering).redraw = False
    exchange = remembered(Exchange)
    exchange.begin_anew()
    top = st.empty()
    if view.problem is not None:
        with top.container():
            show_problem(user, view.problem)
    elif not view.messages and tab().unsent is None:
        with top.container(key=WELCOME):
            _show_welcome(user)
    places = _Places()
    first = view.messages[0].id if view.messages else ""
    earlier = places.earlier(f"{first} {remembered(Window).turn}")
    bubbles = [
        (message, places.bubble(_drawn(message, view), message.role)) for message in view.messages
    ]
    _show_unsent(user, places)
    _show_unheard(user, view, places)
    if _may_be_drawn_alone(view):
        _show_next(places)
        exchange.ready = True
    places.clear_the_rest()
    for message, bubble in reversed(bubbles):
        last = message is view.messages[-1]
        if last and view.compared:
            with bubble:
                show_side_by_side(view, partial(_show_end, user, view, live))
        elif last:
            _show_end(user, view, live, message, bubble)
        else:
            with bubble:
                _show_message(user, view, message, last=False)
        live.look()
    if view.messages:
        with earlier:
            show_earlier(view, lambda message: _show_earlier_message(user, view, message))


class _Places:
    """One place on the page for each message, remembered from run to run.

    While an answer is being followed the script does not end, and only an ended script takes
    away what is no longer drawn; a container that is drawn again even keeps what was in it, unless
    it is now one of another kind. So a place that gets another message changes its kind.
    """

    def __init__(self) -> None:
        self._before = tab().places
        self._now: list[Place] = []

    def earlier(self, drawn: str) -> DeltaGenerator:
        """The place above all bubbles, which is there without any, too."""
        if self._kind(drawn) == 0:
            taken = st.container()
            st.empty()
        else:
            st.empty()
            taken = st.container()
        return taken

    def bubble(self, drawn: str, role: str) -> DeltaGenerator:
        outside = st if self._kind(drawn) == 0 else st.container()
        return outside.chat_message(role, avatar=AVATARS[role])

    def _kind(self, drawn: str) -> int:
        number = len(self._now)
        before = self._before[number] if number < len(self._before) else Place(drawn, 0)
        kind = before.kind if before.drawn == drawn else 1 - before.kind
        self._now.append(Place(drawn, kind))
        return kind

    def next(self) -> int:
        """Takes a place for what will be drawn there alone, as a bubble of the second kind; its
        number.
        """
        self._now.append(Place("", 1))
        return len(self._now) - 1

    def clear_the_rest(self) -> None:
        left = self._before[len(self._now) :]
        for _ in left:
            st.empty()
        # Remembered until the script has ended for once, since that is what takes them away.
        self._now.extend(Place("", place.kind) for place in left)
        tab().places = tuple(self._now)


def _show_welcome(user: SignedIn) -> None:
    with st.container(horizontal_alignment="center"):
        st.space("large")
        show_mark()
        st.subheader(
            t("What would you like to know, {name}?", name=plain(user.name)),
            anchor=False,
            text_alignment="center",
        )
        st.caption(
            t("Answers go on while you are away: close this page and come back."),
            text_alignment="center",
        )


def _drawn(message: Message, view: View) -> str:
    """What is drawn at the place of this message."""
    last = message is view.messages[-1]
    return _name((view.compared if last else ()) or [message], last=last)


def _name(messages: Sequence[Message], *, last: bool) -> str:
    """An answer that is continued is another one to draw: what stood below it goes. So is one that
    was the last: it has fewer pieces now.
    """
    drawn = [f"{one.id} {one.run.id if one.run else ''}" for one in messages]
    return " ".join([*drawn, "last"] if last else drawn)


def _may_be_drawn_alone(view: View) -> bool:
    """Whether one more message changes nothing of the page but its end."""
    if view.problem is not None or view.compared or view.writing or tab().unsent is not None:
        return False
    if remembered(Window).pages or remembered(Steering).edited:
        return False
    if queue().of(view.conversation_id) or dictation().of(view.conversation_id):
        return False
    last = view.messages[-1] if view.messages else None
    return last is None or (last.run is not None and last.run.state == "completed")


def _show_next(places: _Places) -> None:
    """Two places that are empty until a message is sent."""
    number = places.next()
    st.fragment(_show_next_question, key=QUESTION)()
    places.next()
    st.fragment(_show_next_answer, key=ANSWER)(number)


def _show_next_question() -> None:
    message = remembered(Exchange).question
    if message is None:
        st.empty()
        return
    with st.chat_message("user", avatar=AVATARS["user"]):
        show_question(View(message.conversation_id), message)


def _show_next_answer(number: int) -> None:
    """Follows the answer until the whole page is to be drawn; `number` is the question's place."""
    exchange = remembered(Exchange)
    question, answer = exchange.question, exchange.answer
    if question is None or answer is None or answer.run is None:
        st.empty()
        return
    # The page finds both where they are, and draws on.
    drawn = Place(_name([question], last=False), 1), Place(_name([answer], last=True), 1)
    tab().places = (*tab().places[:number], *drawn, *tab().places[number + 2 :])
    shelves().watched = answer.run.id
    with whole_page_on_click(), Live([answer], alone=True) as live:
        live.begin(answer, st.chat_message("assistant", avatar=AVATARS["assistant"]))
        show_that_it_is_written()
        live.follow()


def _show_earlier_message(user: SignedIn, view: View, message: Message) -> None:
    with st.chat_message(message.role, avatar=AVATARS[message.role]):
        _show_message(user, view, message, last=False)


def _show_end(
    user: SignedIn, view: View, live: Live, message: Message, place: DeltaGenerator
) -> None:
    """The last message, or one of several answers side by side: drawn, or followed from now on."""
    if message in view.writing:
        live.begin(message, place)
    else:
        with place:
            _show_message(user, view, message, last=True)


def _show_message(user: SignedIn, view: View, message: Message, *, last: bool) -> None:
    if message.role == "user":
        show_question(view, message)
        return
    live = view.active is not None
    show_answer(message, last=last, live=live)
    state = message.run.state if message.run else "completed"
    continued = message.id if message.content and last else None
    if message.error is not None:
        problem = Problem(
            message.error.code,
            translated(message.error.message),
            message.parent_id,
            bool(message.content),
            continued,
            message.id,
            message.created_at.timestamp() + (message.error.retry_after or 0),
            message.model if message in view.compared else None,
        )
        show_problem(user, problem, offer=last)
    elif state == "cancelled":
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/stop_circle: {t('Stopped.')}", width="content")
            if continued:
                show_continue(continued)
    elif state == "interrupted":
        sentence = t("AL-Chat was stopped while it wrote this answer. What had arrived is kept.")
        show_problem(
            user,
            Problem(
                "interrupted",
                sentence,
                message.parent_id,
                message_id=continued,
                answer_id=message.id,
                beside=message.model if message in view.compared else None,
            ),
            offer=last,
        )
    show_answer_bar(message)


def _show_unsent(user: SignedIn, places: _Places) -> None:
    unsent = tab().unsent
    if unsent is None:
        return
    with places.bubble(f"{unsent.idempotency_key}-text", "user"):
        show_outgoing(unsent)
        st.markdown(asked(unsent.text), anchors=False)
    if unsent.code == UPLOADING:
        return
    with places.bubble(f"{unsent.idempotency_key}-problem", "assistant"):
        show_problem(user, Problem(unsent.code, unsent.problem), unsent=True)


def _show_unheard(user: SignedIn, view: View, places: _Places) -> None:
    for one in dictation().failed(view.conversation_id):
        with places.bubble(f"{one.key}-said", "user"):
            show_recording(one)
        with places.bubble(f"{one.key}-problem", "assistant"):
            show_problem(user, Problem(one.code, one.problem, recording=one.key))
