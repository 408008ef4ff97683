"""Calls of tools as steps of an answer, and the question whether one may be made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.elements.lib.mutable_status_container import StatusContainer

from alchat_core.client import AlChatError, ToolCall
from alchat_core.client.tools import Decision
from papita_core.errors import PapitaError
from portal.chat.reasoning import in_seconds
from portal.chat.view import client, problem_of
from portal.session import tab
from portal.texts import t
from portal.words import plain

States = Literal["running", "complete", "error"]

# What of a result is shown; the model has read all of it.
MOST_SHOWN = 4000
# A longer one scrolls.
LINES = 12
HEIGHT = 260


def show_steps(calls: Sequence[ToolCall], message_id: str, *, live: bool) -> None:
    """The calls of a finished answer, closed; what one has said is sent when it is opened."""
    (_steps if live else _steps_alone)(calls, message_id)


def _steps(calls: Sequence[ToolCall], message_id: str) -> None:
    for call in calls:
        failed = call.is_error or call.content is None
        step = st.expander(
            _label(call),
            type="step",
            icon=":material/error:" if failed else ":material/check:",
            key=f"al_chat_step_{message_id}_{call.id}",
            on_change="rerun",
        )
        # A step without content cannot be opened.
        _show_arguments(step, call)
        if step.open:
            _show_result(step, call)


_steps_alone = st.fragment(_steps)


class LiveSteps:
    """The calls of one place of an answer that is being written, one after the other."""

    def __init__(self, place: DeltaGenerator, run_id: str) -> None:
        self._place = place
        self._run_id = run_id
        self._drawn: dict[str, tuple[StatusContainer, DeltaGenerator, DeltaGenerator]] = {}

    def show(self, call: ToolCall, *, undecided: bool) -> None:
        """Draws the call, or what has become of it."""
        known = self._drawn.get(call.id)
        if known is None and call.content is not None:
            # Drawn anew in another run of the page: nothing of it will change.
            failed = ":material/error:" if call.is_error else ":material/check:"
            step = self._place.expander(_label(call), type="step", icon=failed)
            _show_arguments(step, call)
            _show_result(step, call)
            return
        if known is None:
            # Not in a `with`, whose end would be taken for that of the call.
            status = self._place.status(
                _live_label(call, undecided), type="step", expanded=undecided, state=_state(call)
            )
            _show_arguments(status, call)
            known = self._drawn[call.id] = (status, status.empty(), status.empty())
            if undecided:
                self._ask(call, known[1])
        else:
            known[0].update(
                label=_live_label(call, undecided),
                state=_state(call),
                expanded=None if undecided else False,
            )
            if not undecided:
                known[1].empty()
        if call.content is not None:
            _show_result(known[2], call)

    def _ask(self, call: ToolCall, place: DeltaGenerator) -> None:
        key = f"{self._run_id}_{call.id}"
        with place.container(gap="small"):
            st.caption(
                t(
                    "Nothing is sent before you decide. If nobody does, the answer ends after a"
                    " while."
                )
            )
            with st.container(horizontal=True, gap="small"):
                choices: tuple[tuple[Decision, str], ...] = (
                    ("once", t("Allow once")),
                    ("always", t("Always allow")),
                    ("deny", t("Deny")),
                )
                for decision, label in choices:
                    st.button(
                        label,
                        key=f"al_chat_{decision}_{key}",
                        type="primary" if decision == "once" else "secondary",
                        on_click=decide,
                        args=(self._run_id, call.id, decision),
                    )


def decide(run_id: str, call_id: str, decision: Decision) -> None:
    """Whether a call is made. Who decides second, in another tab, is told so."""
    state = tab()
    if (following := state.following.get(run_id)) is not None:
        following.undecided.discard(call_id)
    try:
        client().decide(run_id, call_id, decision)
    except (AlChatError, PapitaError) as error:
        state.notice = problem_of(error).sentence


def _state(call: ToolCall) -> States:
    if call.content is None:
        return "running"
    return "error" if call.is_error else "complete"


def _live_label(call: ToolCall, undecided: bool) -> str:
    if undecided:
        return t("May **{tool}** be called?", tool=plain(call.tool)) + _where(call)
    if call.content is None:
        return f":shimmer[{plain(call.tool)}]" + _where(call)
    return _label(call)


def _label(call: ToolCall) -> str:
    return f"**{plain(call.tool)}**" + _where(call)


def _where(call: ToolCall) -> str:
    said = [plain(call.server)] if call.server else []
    if call.seconds is not None:
        said.append(in_seconds(call.seconds))
    return f" :gray[{' · '.join(said)}]" if said else ""


def _show_arguments(place: DeltaGenerator, call: ToolCall) -> None:
    if isinstance(call.arguments, str):
        place.code(call.arguments, language=None, wrap_lines=True)
    elif call.arguments:
        written = json.dumps(call.arguments, indent=2, ensure_ascii=False)
        place.code(written[:MOST_SHOWN], language="json", wrap_lines=True)
    else:
        place.caption(t("Without arguments."))


def _show_result(place: DeltaGenerator, call: ToolCall) -> None:
    """One element: what the tool said, or the beginning of it."""
    if call.content is None:
        place.caption(t("This call was not finished."))
        return
    said = call.content[:MOST_SHOWN]
    if call.truncated or len(said) < len(call.content):
        said += "\n\n… " + t("There is more of it.")
    long = said.count("\n") > LINES or len(said) > LINES * 80
    place.code(
        said or t("Nothing."),
        language=_language(said),
        wrap_lines=True,
        height=HEIGHT if long else "content",
    )


def _language(text: str) -> str | None:
    return "json" if text.lstrip()[:1] in ("{", "[") else None
