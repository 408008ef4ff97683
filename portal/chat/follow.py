"""Draws an answer while it is being written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from alchat_core.client import (
    AlChatError,
    AlChatUnreachable,
    Conversation,
    Event,
    Follower,
    Message,
)
from papita_core.errors import Unauthenticated
from portal import wiring
from portal.chat.problems import show_problem
from portal.chat.view import CHECK_SECONDS, Problem, View, client, problem_of
from portal.chat.writing import FRAME_SECONDS, LiveAnswer, begun
from portal.page_sessions import draw_anew, told_of_clicks
from portal.session import current, tab
from portal.texts import t, tn, translated
from portal.turns import turns
from portal.words import dollars, plain

# Between two looks at the session state, which is where a click or a closed tab ends a script: if
# the script is told of them it need not look for them.
LOOK_SECONDS = 0.25
TOLD_SECONDS = 2.0
# The same where several are followed in turn.
TURN_SECONDS = 0.04
# The least that is waited for events: what is due does not make a loop of no wait.
LEAST_SECONDS = 0.01
# A page that was just opened is still loading what it needs to draw code or tables. Updates that
# come faster than it can finish put it off for as long as React lets them: five seconds.
SETTLE_SECONDS = 0.8
# For each page that follows answers in this process: from 17 on they are drawn less often, since
# together they would keep the interpreter busy.
SHARE_SECONDS = 0.003
# An answer that is drawn alone stays so for as long; with more than these in the process until it
# is complete.
ALONE_SECONDS = 1.0
FEW = 8
# How much longer than a first word more words may take, and what else is on the page after the last
# ones: of many answers that end at once, all are there before any of the pages is drawn anew.
PATIENCE_SECONDS = 0.3
WHOLE_PAGE_SECONDS = 6.0
# What is on the page at any time, and is to be seen while an answer is written, or not then.
WRITTEN = """<style>
.st-key-al_chat_stop.st-key-al_chat_stop { display: flex; }
.st-key-al_chat_welcome { display: none; }
</style>"""


@dataclass(slots=True)
class _Track:
    """One answer: where its events come from, and where it is drawn."""

    message: Message
    events: Follower | None = None
    answer: LiveAnswer | None = None
    container: DeltaGenerator | None = None
    problem: Problem | None = None

    def arrived(self, timeout: float) -> list[Event]:
        """What has come since, if anything can."""
        if self.events is None or self.answer is None or self.problem is not None:
            return []
        try:
            if timeout == 0:
                return self.events.wait(0)
            with turns.pause(PATIENCE_SECONDS if self.begun else None):
                return self.events.wait(timeout)
        except AlChatError as error:
            self.problem = problem_of(error)
            return []

    def take(self, arrived: Iterable[Event]) -> None:
        for event in arrived:
            if self.answer is not None:
                self.answer.take(event)
            if notice := notice_of(event):
                st.toast(notice[0], icon=notice[1])

    def draw(self) -> bool:
        """Whether there was anything to draw."""
        return self.answer is not None and self.answer.draw()

    @property
    def begun(self) -> bool:
        """Whether its first words are there, so that there is time for the next ones."""
        return self.answer is None or self.answer.begun

    @property
    def going(self) -> bool:
        """Whether more will come that can be drawn."""
        if self.events is None or self.answer is None or self.problem is not None:
            return False
        return not self.events.finished


class _Followers:
    """How many pages of this process follow answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    @property
    def pause(self) -> float:
        """Seconds between two drawings of one page that keep all of them from being late."""
        return self.count * SHARE_SECONDS

    @property
    def few(self) -> bool:
        """Whether there is time for more than the answers."""
        return self.count <= FEW

    @contextmanager
    def one_more(self) -> Iterator[None]:
        with self._lock:
            self.count += 1
        try:
            yield
        finally:
            with self._lock:
                self.count -= 1


_followers = _Followers()


class Live:
    """The answers in motion, from before the page is drawn: their first words need not wait for
    that. Mostly it is one; several stand side by side. Without any, nothing of this does anything.

    `alone`: the rest of the page is from before. It is drawn anew once there is time for it.
    """

    def __init__(self, messages: Sequence[Message], *, alone: bool = False) -> None:
        self._alone = alone
        self._tracks = {message.id: _Track(message) for message in messages}
        self._settle = 0.0
        self._wait = LOOK_SECONDS

    def __enter__(self) -> Self:
        following = tab().following
        for track in self._tracks.values():
            if track.message.run is None:
                continue
            run_id = track.message.run.id
            if run_id not in following:
                following[run_id] = begun(track.message, run_id)
                self._settle = SETTLE_SECONDS
            try:
                track.events = client().follow(run_id, after=following[run_id].last_event)
            except (AlChatError, Unauthenticated) as error:
                track.problem = problem_of(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for track in self._tracks.values():
            if track.events is not None:
                track.events.close()

    def begin(self, message: Message, container: DeltaGenerator) -> None:
        """Draws what this tab has of the answer, and from now on what comes."""
        track = self._tracks.get(message.id)
        following = tab().following.get(message.run.id) if message.run else None
        if track is not None and following is not None:
            track.container = container
            track.answer = LiveAnswer(message, following, container)

    def look(self) -> None:
        """Draws what has come since, without waiting for more."""
        for track in self._tracks.values():
            track.take(track.arrived(0))
            track.draw()

    def follow(self) -> None:
        """Draws the answers as they are written and runs the page again when all are finished."""
        tracks = list(self._tracks.values())
        drawn = [one for one in tracks if one.answer is not None and one.events is not None]
        try:
            with _followers.one_more(), told_of_clicks(partial(_nudge, drawn)) as told:
                self._wait = TOLD_SECONDS if told else LOOK_SECONDS
                self._until_the_end(drawn)
        except (AlChatError, Unauthenticated) as error:
            for track in drawn:
                track.problem = track.problem or problem_of(error)
        if drawn:
            # The words of others come before all that is drawn now.
            with turns.pause(WHOLE_PAGE_SECONDS):
                pass
        if drawn and not any(track.problem for track in tracks):
            tab().following.clear()
            draw_anew()
        if self._alone:
            draw_anew()
        shown = set()
        for track in tracks:
            problem = track.problem
            if problem is not None and track.container is not None and problem.code not in shown:
                shown.add(problem.code)
                _broken_off(track.container, problem)

    def _until_the_end(self, tracks: Sequence[_Track]) -> None:
        checked = begun = time.monotonic()
        tab()
        while going := [track for track in tracks if track.going]:
            timeout = TURN_SECONDS
            if len(going) == 1:
                timeout = self._longest_wait(
                    begun if self._alone and _followers.few else None, checked
                )
            arrived = [track.arrived(timeout) for track in going]
            tab()
            for track, events in zip(going, arrived, strict=True):
                track.take(events)
            drawn = [track.draw() for track in going]
            if any(drawn) and (self._settle > FRAME_SECONDS or all(one.begun for one in going)):
                if any(track.going for track in going):
                    self._rest(going, max(self._settle, _followers.pause))
                self._settle /= 2
            if self._alone and time.monotonic() - begun > ALONE_SECONDS and _followers.few:
                draw_anew()
            if time.monotonic() - checked > CHECK_SECONDS:
                checked = time.monotonic()
                _still_there(quiet=not any(arrived))

    def _longest_wait(self, begun: float | None, checked: float) -> float:
        """How long one may wait for events: until there is something else to be done."""
        due = checked + CHECK_SECONDS
        if begun is not None:
            due = min(due, begun + ALONE_SECONDS)
        return min(self._wait, max(due - time.monotonic(), LEAST_SECONDS))

    def _rest(self, tracks: Sequence[_Track], least: float) -> None:
        """Lets events gather until drawing them is worth its bytes."""
        track = next(one for one in tracks if one.going)
        seconds = max(least, *(one.answer.pause for one in tracks if one.answer is not None))
        for one in tracks:
            if one.events is not None:
                one.events.gap = seconds if seconds > FRAME_SECONDS else 0.0
        while seconds > 0 and track.events is not None:
            with turns.pause(PATIENCE_SECONDS):
                track.events.rest(min(seconds, self._wait))
            seconds -= self._wait
            tab()


def _nudge(tracks: Iterable[_Track]) -> None:
    for track in tracks:
        if track.events is not None:
            track.events.nudge()


def show_that_it_is_written() -> None:
    """Shows what the page has for that time only, `Stop` say."""
    st.html(WRITTEN)


def moved_on(view: View, seen: Iterable[Conversation]) -> bool:
    """Whether the conversation on the page has gone on elsewhere, in another window say: what a
    look at the list of conversations tells.
    """
    here = next((one for one in seen if one.id == view.conversation_id), None)
    if here is None or view.active is not None or view.problem is not None:
        return False
    last = view.messages[-1].id if view.messages else None
    return here.active_message_id != last or here.active_run_id is not None


def notice_of(event: Event) -> tuple[str, str] | None:
    """What a user is told in passing, and its icon."""
    data = event.data
    if event.type == "run.budget":
        return budget_warning(data), ":material/savings:"
    if event.type == "run.seam":
        said = t("The provider broke off. The answer goes on from there.")
        return said, ":material/link:"
    if event.type == "run.trimmed":
        said = tn(
            "This conversation is long for the model: its oldest message was left out.",
            "This conversation is long for the model: its {count} oldest messages were left out.",
            data["messagesLeftOut"],
        )
        return said, ":material/content_cut:"
    if event.type == "tool.unavailable":
        said = t("The answer is written without the tools of {server}.", server=data["server"])
        return plain(f"{said} {translated(data['message'])}"), ":material/build:"
    return None


def budget_warning(standing: Mapping[str, Any]) -> str:
    """What a user reads when most of a key's budget is spent."""
    sums = {
        "spent": dollars(standing["spentUsd"], "#,##0.00"),
        "limit": dollars(standing["limitUsd"], "#,##0.00"),
    }
    return plain(
        t(
            "{spent} of the {limit} budget of your key are spent today. When all is spent, answers"
            " stop until it begins anew or is raised under Credentials.",
            **sums,
        )
        if standing["period"] == "day"
        else t(
            "{spent} of the {limit} budget of your key are spent this month. When all is spent,"
            " answers stop until it begins anew or is raised under Credentials.",
            **sums,
        )
    )


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
        show_problem(user, problem)
