"""Read-only snapshots: make, list, revoke; and the page on which they are read."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from alchat_core.client import AlChatError, Conversation, NotFound, Share
from papita_core.errors import PapitaError
from portal import navigation, wiring
from portal.chat.answer import show_block
from portal.chat.markdown import asked, pieces
from portal.chat.messages import AVATARS
from portal.chat.organise import attempt
from portal.chat.view import QUERY, client, problem_of
from portal.session import remembered
from portal.texts import t, tn
from portal.words import ago, plain, show_field_error

SHARE = "share"


@dataclass(slots=True)
class Asked:
    """What was wrong with the last attempt to share."""

    problem: str = ""


def share(conversation: Conversation) -> None:
    """The dialog with which a snapshot is made, and those that there are."""

    @st.dialog(t("Share chat"), on_dismiss="rerun")
    def show() -> None:
        st.markdown(
            t(
                "Others read this chat as it is now, and nothing that comes later. Files and keys"
                " are not shared."
            )
        )
        everyone = st.segmented_control(
            t("Who can read it"),
            (True, False),
            default=True,
            required=True,
            format_func=lambda all_: t("Everybody here") if all_ else t("Only some"),
            key="al_chat_share_all",
        )
        if not everyone:
            st.text_input(
                t("User names"),
                placeholder=t("ana, jürgen"),
                key="al_chat_share_names",
                help=t("As they sign in here, with commas between them."),
            )
        st.button(
            t("Share"),
            type="primary",
            icon=":material/share:",
            key="al_chat_share",
            on_click=_share,
            args=(conversation.id,),
        )
        asked = remembered(Asked)
        if asked.problem:
            show_field_error(asked.problem)
            asked.problem = ""
        try:
            made = client().shares(conversation.id)
        except (AlChatError, PapitaError) as error:
            show_field_error(problem_of(error).sentence)
            return
        for one in made:
            _show_share(one)

    show()


def _share(conversation_id: str) -> None:
    names = None
    if not st.session_state.get("al_chat_share_all", True):
        given = str(st.session_state.get("al_chat_share_names") or "")
        names = [name for part in given.split(",") if (name := part.strip())]
        if not names:
            remembered(Asked).problem = t("Say for whom it is.")
            return
    try:
        client().share(conversation_id, names)
    except (AlChatError, PapitaError) as error:
        remembered(Asked).problem = problem_of(error).sentence


def link(share_id: str) -> str:
    """The address under which a snapshot is read."""
    base = wiring.services().settings.origin.rstrip("/")
    return f"{base}/{navigation.entry('shared').path}?{SHARE}={share_id}"


def _show_share(one: Share, *, titled: bool = False) -> None:
    with st.container(border=True, gap="small", key=f"al_chat_share_{one.id}"):
        if titled:
            st.markdown(f"**{plain(one.title)}**")
        whom = t("everybody here") if one.users is None else ", ".join(one.users)
        count = tn("one message", "{count} messages", one.message_count)
        st.caption(
            t(
                "For {whom} · {count} · {when}",
                whom=plain(whom),
                count=count,
                when=ago(one.created_at),
            )
        )
        st.code(link(one.id), language=None, wrap_lines=True)
        st.button(
            t("Stop sharing"),
            icon=":material/link_off:",
            key=f"al_chat_revoke_{one.id}",
            on_click=_revoke,
            args=(one.id,),
        )


def _revoke(share_id: str) -> None:
    attempt(lambda: client().revoke_share(share_id))


def show_mine() -> None:
    """All that the user shares."""
    try:
        mine = client().shares()
    except (AlChatError, PapitaError) as error:
        st.error(plain(problem_of(error).sentence), icon=":material/error:")
        return
    if not mine:
        st.caption(t("You share nothing. A chat is shared from its options."))
    for one in mine:
        _show_share(one, titled=True)


def show_shared(share_id: str) -> None:
    """One snapshot, read-only."""
    try:
        snapshot = client().shared(share_id)
    except NotFound:
        st.info(
            t("There is no such chat, or it is not shared with you any more."),
            icon=":material/link_off:",
        )
        return
    except (AlChatError, PapitaError) as error:
        st.error(plain(problem_of(error).sentence), icon=":material/error:")
        return
    st.title(plain(snapshot.title), anchor=False)
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.caption(
            t(
                "Shared by {name} {when}, read-only",
                name=plain(snapshot.username),
                when=ago(snapshot.created_at),
            ),
            width="content",
        )
        if st.button(
            t("Continue in a chat of my own"),
            icon=":material/edit_square:",
            type="primary",
            key="al_chat_continue_shared",
        ):
            _continue(share_id)
    for message in snapshot.messages:
        with st.chat_message(message.role, avatar=AVATARS[message.role]):
            if message.role == "user":
                st.markdown(asked(message.content), anchors=False)
            else:
                for block in pieces(message.content, apart=False):
                    show_block(block, "", ())
            files = ", ".join(file.name for file in message.attachments)
            if files:
                st.caption(f":material/attach_file: {plain(files)}")
            for source in message.sources:
                name = plain(source.name)
                if source.page:
                    name = t("{name}, page {page}", name=name, page=source.page)
                st.caption(f"\\[{source.n}\\] {name}")


def _continue(share_id: str) -> None:
    try:
        made = client().copy_shared(share_id)
    except (AlChatError, PapitaError) as error:
        st.error(plain(problem_of(error).sentence), icon=":material/error:")
        return
    st.switch_page(navigation.page("al-chat"), query_params={QUERY: made.id})
