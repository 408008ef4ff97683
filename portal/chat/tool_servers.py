"""Tool servers (MCP): make, change, test and delete one's own; be asked again before calls."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from alchat_core.client import AlChatError, ToolServer
from papita_core.errors import PapitaError
from portal.chat.settings import field_errors
from portal.chat.view import client, problem_of
from portal.session import actor, remembered
from portal.texts import t, tn
from portal.words import plain, show_field_error

PREFIX = "al_chat_tool_server_"


@dataclass(slots=True)
class Bench:
    """What of the servers is open: the list, or one that is edited (None: a new one)."""

    servers: tuple[ToolServer, ...] = ()
    editing: bool = False
    item: ToolServer | None = None
    deleting: str | None = None
    said: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def begin() -> None:
    """Reads the servers anew, before the dialog opens."""
    bench = remembered(Bench)
    bench.editing, bench.item, bench.deleting = False, None, None
    bench.said, bench.errors, bench.problem = {}, {}, ""
    _read(bench)


def _read(bench: Bench) -> None:
    try:
        bench.servers = client().tool_servers(limit=50).items
    except (AlChatError, PapitaError) as error:
        bench.problem = problem_of(error).sentence


def open_tool_servers() -> None:
    """The dialog. `begin` was called before."""
    st.dialog(t("Tool servers"), on_dismiss="rerun", width="medium")(_dialog)()


def _dialog() -> None:
    bench = remembered(Bench)
    if bench.problem:
        st.error(plain(bench.problem), icon=":material/error:")
    if bench.editing:
        _form(bench)
        return
    st.caption(
        t(
            "A server that speaks MCP. Switch it on for a chat under its settings; you are asked"
            " before each tool is called for the first time."
        )
    )
    for server in bench.servers:
        _row(bench, server)
    st.button(
        t("Add a tool server"),
        icon=":material/add:",
        key=PREFIX + "add",
        on_click=_edit,
        args=(None,),
    )


def _row(bench: Bench, server: ToolServer) -> None:
    tools = (
        t("not asked yet")
        if server.tool_count is None
        else tn("{count} tool", "{count} tools", server.tool_count)
    )
    if not server.own:
        tools += ", " + t("by {owner}", owner=plain(server.owner))
    elif server.shared:
        tools += ", " + t("shared")
    name = plain(server.name)
    with st.container(border=True, gap="xsmall", key=f"{PREFIX}{server.id}"):
        st.markdown(f"**{name}** :gray[{tools}]")
        st.caption(plain(server.url))
        if server.id in bench.said:
            st.markdown(plain(bench.said[server.id]))
        with st.container(horizontal=True, gap="xsmall"):
            actions = [("test", t("Test"), _test), ("forget", t("Reset approvals"), _forget)]
            if server.own:
                sure = bench.deleting == server.id
                actions.append(("drop", t("Really delete") if sure else t("Delete"), _delete))
                st.button(
                    t("Edit"), key=f"{PREFIX}edit_{server.id}", on_click=_edit, args=(server,)
                )
            for what, label, do in actions:
                st.button(label, key=f"{PREFIX}{what}_{server.id}", on_click=do, args=(server.id,))


def _form(bench: Bench) -> None:
    with st.form(PREFIX + "form", border=False):
        st.text_input(t("Name"), key=PREFIX + "name", max_chars=100)
        _error(bench, "name")
        st.text_input(t("Address"), key=PREFIX + "url", placeholder="https://tools.example/mcp")
        _error(bench, "url")
        st.toggle(
            t("It wants a token"),
            key=PREFIX + "needs_token",
            help=t("Each user keeps their own under Credentials, with exactly this address."),
        )
        if actor().may("projects:manage"):
            st.toggle(t("Every user of this portal may use it"), key=PREFIX + "shared")
        with st.container(horizontal=True):
            st.form_submit_button(t("Save"), type="primary", on_click=_save)
            st.form_submit_button(t("Back"), on_click=begin)


def _error(bench: Bench, name: str) -> None:
    if name in bench.errors:
        show_field_error(bench.errors[name])


def _edit(server: ToolServer | None) -> None:
    bench, state = remembered(Bench), st.session_state
    bench.editing, bench.item, bench.errors, bench.problem = True, server, {}, ""
    state[PREFIX + "name"] = server.name if server else ""
    state[PREFIX + "url"] = server.url if server else ""
    state[PREFIX + "needs_token"] = bool(server and server.needs_token)
    state[PREFIX + "shared"] = bool(server and server.shared)


def _save() -> None:
    bench, state = remembered(Bench), st.session_state
    name = str(state.get(PREFIX + "name") or "").strip()
    url = str(state.get(PREFIX + "url") or "").strip()
    needs_token = bool(state.get(PREFIX + "needs_token"))
    shared = bool(state.get(PREFIX + "shared"))
    try:
        user = client()
        if bench.item is None:
            user.create_tool_server(name, url, needs_token=needs_token, shared=shared)
        else:
            user.update_tool_server(
                bench.item.id, name=name, url=url, needs_token=needs_token, shared=shared
            )
    except (AlChatError, PapitaError) as error:
        bench.errors, bench.problem = field_errors(error)
        return
    begin()


def _test(server_id: str) -> None:
    bench = remembered(Bench)
    try:
        count = client().test_tool_server(server_id)
        bench.said[server_id] = tn(
            "It answers, and has {count} tool.", "It answers, and has {count} tools.", count
        )
        _read(bench)
    except (AlChatError, PapitaError) as error:
        bench.said[server_id] = problem_of(error).sentence


def _forget(server_id: str) -> None:
    bench = remembered(Bench)
    try:
        client().forget_approvals(server_id)
        bench.said[server_id] = t("You are asked again before each of its tools is called.")
    except (AlChatError, PapitaError) as error:
        bench.said[server_id] = problem_of(error).sentence


def _delete(server_id: str) -> None:
    bench = remembered(Bench)
    if bench.deleting != server_id:
        bench.deleting = server_id
        return
    try:
        client().delete_tool_server(server_id)
    except (AlChatError, PapitaError) as error:
        bench.problem = problem_of(error).sentence
        return
    begin()
