"""Prompts and assistants: choose one for a new chat; make, change, share and delete one's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from alchat_core.client import AlChatError, Assistant
from papita_core.errors import PapitaError
from portal.chat.attachments import MEGABYTES, upload_all
from portal.chat.choices import choices, shelf
from portal.chat.drafts import drafts
from portal.chat.settings import PREFIX, field_errors, fill, given_parameters, show_parameters
from portal.chat.view import QUERY, View, client, problem_of
from portal.dialogs import close_when_done
from portal.session import remembered, tab
from portal.texts import t
from portal.words import plain, show_field_error

KINDS = ("assistant", "prompt")


@dataclass(slots=True)
class Desk:
    """What of the library is open: the list, or one thing that is edited (None: a new one).

    `turn` counts what was edited; `uploaded` are ids of files by those of what was picked.
    """

    editing: bool = False
    item: Assistant | None = None
    deleting: str | None = None
    errors: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    turn: int = 0
    uploaded: dict[str, str] = field(default_factory=dict)


def begin() -> None:
    """Reads the library anew, before the dialog opens."""
    desk = remembered(Desk)
    desk.editing, desk.item, desk.deleting, desk.errors, desk.problem = False, None, None, {}, ""
    try:
        shelf().put(client().assistants(limit=100).items)
    except (AlChatError, PapitaError) as error:
        desk.problem = problem_of(error).sentence


def open_library() -> None:
    """The dialog. `begin` was called before."""
    st.dialog(t("Prompts and assistants"), on_dismiss="rerun", width="medium")(_library)()


def show_assistant(view: View) -> None:
    """Which assistant the new chat is going to have, with a way out."""
    if view.conversation_id is not None or choices().assistant_id is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f":material/smart_toy: **{plain(choices().assistant_name)}**", width="content")
        st.button(
            t("Without it"),
            icon=":material/close:",
            type="tertiary",
            key="al_chat_no_assistant",
            on_click=choices().reset,
        )


def use(assistant_id: str) -> None:
    """Begins a new chat with the assistant, or puts the prompt into the input."""
    item = shelf().named(assistant_id)
    if item is None:
        return
    if item.kind == "prompt":
        drafts().put(item.prompt)
        return
    state = tab()
    state.following.clear()
    st.query_params.pop(QUERY, None)
    mine = choices()
    mine.reset()
    mine.assistant_id, mine.assistant_name, mine.tools = item.id, item.name, item.tools
    if item.model:
        state.model = item.model


def _library() -> None:
    close_when_done()
    desk = remembered(Desk)
    if desk.problem:
        st.error(plain(desk.problem), icon=":material/error:")
    if desk.editing:
        _form(desk)
        return
    items = sorted(shelf().items, key=lambda item: item.name.casefold())
    if not items:
        st.caption(t("A prompt is a text for the input. An assistant is what a chat begins with."))
    for item in items:
        _row(desk, item)
    st.button(
        t("New prompt or assistant"),
        icon=":material/add:",
        key="al_chat_library_new",
        on_click=_edit,
        args=(None,),
    )


def _row(desk: Desk, item: Assistant) -> None:
    about = t("Assistant") if item.kind == "assistant" else t("Prompt")
    if not item.own:
        about = t("{kind} by {owner}", kind=about, owner=plain(item.owner))
    elif item.shared:
        about = t("{kind}, shared", kind=about)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        with st.container(gap=None):
            st.markdown(f"**{plain(item.name)}** :gray[{about}]")
            if item.files:
                names = ", ".join(file.name for file in item.files)
                st.caption(f":material/attach_file: {plain(names)}")
        name = plain(item.name)
        st.button(t("Use"), key=f"al_chat_use_{item.id}", on_click=_use, args=(item.id,), help=name)
        if item.own:
            st.button(
                t("Edit"),
                type="tertiary",
                key=f"al_chat_edit_{item.id}",
                on_click=_edit,
                args=(item,),
                help=name,
            )
            sure = desk.deleting == item.id
            st.button(
                t("Really delete") if sure else t("Delete"),
                type="tertiary",
                key=f"al_chat_drop_{item.id}",
                on_click=_delete,
                args=(item.id,),
                help=name,
            )


def _form(desk: Desk) -> None:
    servers = _servers()
    with st.form("al_chat_library_form", border=False):
        st.text_input(t("Name"), key=PREFIX + "name", max_chars=100)
        _error(desk, "name")
        st.segmented_control(
            t("Kind"),
            KINDS,
            format_func=lambda kind: t("Assistant") if kind == "assistant" else t("Prompt"),
            key=PREFIX + "kind",
            required=True,
            default="assistant",
        )
        st.text_area(t("Text of the prompt"), key=PREFIX + "prompt", height=160)
        _error(desk, "prompt")
        st.text_input(
            t("Model"), key=PREFIX + "model", placeholder=t("The one that is chosen in the chat")
        )
        _error(desk, "model")
        with st.expander(t("Parameters"), type="compact"):
            show_parameters(desk.errors)
        if servers:
            st.multiselect(
                t("Tools"),
                list(servers),
                format_func=lambda one: servers[one],
                key=PREFIX + "tools",
            )
        _show_files(desk)
        st.toggle(t("Every user of this portal may use it"), key=PREFIX + "shared")
        with st.container(horizontal=True):
            st.form_submit_button(t("Save"), type="primary", on_click=_save)
            st.form_submit_button(t("Back"), on_click=_back)


def _show_files(desk: Desk) -> None:
    """Those that it has, to be taken out, and a place for more."""
    names = {file.id: file.name for file in desk.item.files if file.id} if desk.item else {}
    if names:
        st.multiselect(
            t("Files"),
            list(names),
            format_func=lambda one: names[one],
            key=PREFIX + "files",
        )
    st.file_uploader(
        t("Add files"),
        accept_multiple_files=True,
        max_upload_size=MEGABYTES,
        help=t("The model reads their text in each chat that begins with this."),
        key=_picked(desk),
    )
    _error(desk, "files")


def _picked(desk: Desk) -> str:
    return f"{PREFIX}picked_{desk.turn}"


def _error(desk: Desk, name: str) -> None:
    if name in desk.errors:
        show_field_error(desk.errors[name])


def _servers() -> dict[str, str]:
    try:
        return {server.id: server.name for server in client().tool_servers(limit=50)}
    except (AlChatError, PapitaError):
        return {}


def _use(assistant_id: str) -> None:
    use(assistant_id)
    tab().dialog_done = True


def _edit(item: Assistant | None) -> None:
    desk = remembered(Desk)
    desk.editing, desk.item, desk.errors, desk.problem = True, item, {}, ""
    desk.turn, desk.uploaded = desk.turn + 1, {}
    fill(item.prompt if item else None, (item.parameters if item else None) or {})
    state = st.session_state
    state[PREFIX + "name"] = item.name if item else ""
    state[PREFIX + "kind"] = item.kind if item else "assistant"
    state[PREFIX + "model"] = (item.model if item else None) or ""
    state[PREFIX + "shared"] = bool(item and item.shared)
    state[PREFIX + "tools"] = list(item.tools) if item else []
    state[PREFIX + "files"] = [file.id for file in item.files if file.id] if item else []


def _back() -> None:
    remembered(Desk).editing = False


def _save() -> None:
    desk, state = remembered(Desk), st.session_state
    name = str(state.get(PREFIX + "name") or "").strip()
    prompt = str(state.get(PREFIX + "prompt") or "").strip()
    model = str(state.get(PREFIX + "model") or "").strip() or None
    kind = "prompt" if state.get(PREFIX + "kind") == "prompt" else "assistant"
    shared = bool(state.get(PREFIX + "shared"))
    tools = list(state.get(PREFIX + "tools") or ())
    parameters = given_parameters() or None
    picked = state.get(_picked(desk)) or ()
    try:
        user = client()
        desk.errors, desk.problem = {}, upload_all(user, picked, desk.uploaded)
        if desk.problem:
            return
        # What stays of those that it has, and what was picked just now.
        files = [*(state.get(PREFIX + "files") or ())]
        files += [desk.uploaded[file.file_id] for file in picked]
        if desk.item is None:
            user.create_assistant(
                name,
                prompt,
                kind=kind,  # type: ignore[arg-type]
                model=model,
                parameters=parameters,
                shared=shared,
                files=files,
                tools=tools,
            )
        else:
            user.update_assistant(
                desk.item.id,
                name=name,
                prompt=prompt,
                kind=kind,  # type: ignore[arg-type]
                model=model,
                parameters=parameters,
                shared=shared,
                files=files,
                tools=tools,
            )
    except (AlChatError, PapitaError) as error:
        desk.errors, desk.problem = field_errors(error)
        return
    begin()


def _delete(assistant_id: str) -> None:
    desk = remembered(Desk)
    if desk.deleting != assistant_id:
        desk.deleting = assistant_id
        return
    try:
        client().delete_assistant(assistant_id)
    except (AlChatError, PapitaError) as error:
        desk.problem = problem_of(error).sentence
        return
    begin()
