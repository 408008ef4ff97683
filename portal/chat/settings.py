"""What a conversation is set to: system prompt, parameters and tools, also before there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from alchat_core.client import AlChatError, AlChatProblem, ToolServer
from papita_core.errors import PapitaError
from portal.chat.choices import choices
from portal.chat.view import View, client, problem_of
from portal.dialogs import close_when_done
from portal.session import remembered, tab
from portal.texts import t
from portal.words import plain, show_field_error

PREFIX = "al_chat_set_"
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
# The name on the wire, and the field; both services call them so in what they refuse.
NUMBERS: Mapping[str, tuple[float, float, float]] = {
    "temperature": (0.0, 2.0, 0.1),
    "topP": (0.0, 1.0, 0.05),
}
SEED = 2**53 - 1


@dataclass(slots=True)
class Editing:
    """The dialog that is open: of which conversation, and what is wrong with which field."""

    conversation_id: str | None = None
    servers: tuple[ToolServer, ...] = ()
    errors: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def begin(view: View) -> None:
    """Reads what the conversation is set to, before the dialog opens over the page."""
    editing = remembered(Editing)
    editing.conversation_id = view.conversation_id
    editing.errors, editing.problem, editing.servers = {}, "", ()
    prompt, parameters, tools = (
        choices().system_prompt,
        choices().parameters,
        choices().tools,
    )
    try:
        user = client()
        if view.conversation_id is not None:
            found = user.conversation(view.conversation_id)
            prompt, parameters, tools = found.system_prompt, found.parameters or {}, found.tools
        editing.servers = user.tool_servers(limit=50).items
    except (AlChatError, PapitaError) as error:
        editing.problem = problem_of(error).sentence
    fill(prompt, parameters)
    for server in editing.servers:
        st.session_state[f"{PREFIX}tool_{server.id}"] = server.id in tools


def fill(prompt: str | None, parameters: Mapping[str, Any]) -> None:
    """Puts values into the fields of the form."""
    state = st.session_state
    state[PREFIX + "prompt"] = prompt or ""
    for name in (*NUMBERS, "maxTokens", "seed", "reasoningEffort"):
        state[PREFIX + name] = parameters.get(name)
    state[PREFIX + "stop"] = list(parameters.get("stop") or ())


def show_parameters(errors: Mapping[str, str]) -> None:
    """The fields of the parameters, two in a row; an empty one leaves it to the provider."""
    words = {
        "temperature": (t("Temperature"), t("0 is steady, 2 is wild.")),
        "topP": (t("Top-p"), t("How much of what is likely is drawn from.")),
    }
    left, right = st.columns(2)
    for (name, (low, high, step)), column in zip(NUMBERS.items(), (left, right), strict=True):
        with column:
            st.number_input(
                words[name][0],
                low,
                high,
                value=None,
                step=step,
                placeholder=t("Default"),
                help=words[name][1],
                key=PREFIX + name,
            )
            _error(errors, name)
    left, right = st.columns(2)
    with left:
        _whole(t("Longest answer, in tokens"), "maxTokens", 1, 1_000_000, errors)
    with right:
        _whole(t("Seed"), "seed", -SEED, SEED, errors)
    left, right = st.columns(2)
    with left:
        st.selectbox(
            t("Reasoning effort"),
            EFFORTS,
            index=None,
            placeholder=t("Default"),
            key=PREFIX + "reasoningEffort",
        )
        _error(errors, "reasoningEffort")
    with right:
        st.multiselect(
            t("Stop at"),
            list(st.session_state.get(PREFIX + "stop") or ()),
            accept_new_options=True,
            max_selections=4,
            placeholder=t("A text that ends the answer"),
            key=PREFIX + "stop",
        )
        _error(errors, "stop")


def _whole(label: str, name: str, low: int, high: int, errors: Mapping[str, str]) -> None:
    st.number_input(
        label, low, high, value=None, step=1, placeholder=t("Default"), key=PREFIX + name
    )
    _error(errors, name)


def _error(errors: Mapping[str, str], name: str) -> None:
    if name in errors:
        show_field_error(errors[name])


def given_parameters() -> dict[str, Any]:
    """What the fields hold, without those that are empty."""
    names = (*NUMBERS, "maxTokens", "seed", "reasoningEffort", "stop")
    found = {name: st.session_state.get(PREFIX + name) for name in names}
    return {
        name: list(value) if name == "stop" else value
        for name, value in found.items()
        if value not in (None, [], "")
    }


def field_errors(error: AlChatError | PapitaError) -> tuple[dict[str, str], str]:
    """AL-Chat's sentences by field, else the one about the whole."""
    fields = error.more.get("errors") if isinstance(error, AlChatProblem) else None
    if not fields:
        return {}, problem_of(error).sentence
    return {name.rpartition(".")[2]: str(said) for name, said in fields.items()}, ""


def open_settings(view: View) -> None:
    """The dialog. `begin` was called before."""
    _dialog(t("Settings of this chat"), _settings, view)


def _dialog(title: str, body: Callable[..., None], *args: object) -> None:
    st.dialog(title, on_dismiss="rerun", width="medium")(body)(*args)


def _settings(view: View) -> None:
    close_when_done()
    editing = remembered(Editing)
    if editing.problem:
        st.error(plain(editing.problem), icon=":material/error:")
    with st.form("al_chat_settings", border=False):
        st.text_area(
            t("System prompt"),
            key=PREFIX + "prompt",
            placeholder=t("What the model is told before every answer"),
            height=140,
        )
        _error(editing.errors, "systemPrompt")
        show_parameters(editing.errors)
        if editing.servers:
            st.markdown(t("**Tools** that answers of this chat may use"))
            for server in editing.servers:
                st.toggle(plain(server.name), key=f"{PREFIX}tool_{server.id}")
            _error(editing.errors, "tools")
        with st.container(horizontal=True):
            st.form_submit_button(t("Save"), type="primary", on_click=_save)
            st.form_submit_button(t("Reset to defaults"), on_click=_reset)


def _reset() -> None:
    fill(None, {})


def _save() -> None:
    editing = remembered(Editing)
    prompt = str(st.session_state.get(PREFIX + "prompt") or "").strip() or None
    parameters = given_parameters()
    tools = tuple(
        server.id for server in editing.servers if st.session_state.get(f"{PREFIX}tool_{server.id}")
    )
    if editing.conversation_id is None:
        mine = choices()
        mine.system_prompt, mine.parameters, mine.tools = prompt, parameters, tools
        tab().dialog_done = True
        return
    try:
        client().update_conversation(
            editing.conversation_id,
            system_prompt=prompt,
            parameters=parameters or None,
            tools=tools,
        )
    except (AlChatError, PapitaError) as error:
        editing.errors, editing.problem = field_errors(error)
        return
    tab().dialog_done = True
