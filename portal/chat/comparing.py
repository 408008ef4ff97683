"""Two to four models on one question: which ones, and their answers side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from alchat_core.client import Message
from portal.chat.actions import chosen_model
from portal.chat.choices import choices
from portal.chat.view import View
from portal.dialogs import close_when_done, dialog
from portal.session import require_user, tab
from portal.texts import N_, t
from portal.words import plain

MOST_OTHERS: Final = 3
# Two fit beside each other; on a phone, and from the third on, they stand below.
WIDTH: Final = 312
_FIELD: Final = "al_chat_compared_models"


def show_compared(view: View) -> None:
    """Which models are going to answer the next message, with a way back to one."""
    if not choices().others:
        return
    names = [chosen_model() or "", *choices().others]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(
            ":material/compare: "
            + t("Compared: {models}", models=", ".join(f"**{plain(name)}**" for name in names)),
            width="content",
        )
        st.button(
            t("Only one model"),
            icon=":material/close:",
            type="tertiary",
            key="al_chat_compare_end",
            on_click=_end,
        )


@dialog(N_("Compare models"), on_dismiss="rerun", icon=":material/compare:")
def open_comparing(view: View) -> None:
    """The dialog in which the models are chosen."""
    require_user("projects:launch")
    close_when_done()
    first = chosen_model()
    known = [model for model in view.models if model != first]
    chosen = [model for model in choices().others if model != first]
    with st.form("al_chat_compare", border=False):
        st.multiselect(
            t("Models"),
            [*known, *(model for model in chosen if model not in known)],
            default=chosen,
            key=_FIELD,
            max_selections=MOST_OTHERS,
            accept_new_options=True,
            placeholder=t("One to three more models"),
        )
        st.caption(
            t(
                "Each message is answered by {model} and by the models that you choose here, side"
                " by side. The chat goes on with the answer that you choose.",
                model=plain(first or t("the first model")),
            )
        )
        st.form_submit_button(t("Compare"), type="primary", on_click=_begin)


def show_side_by_side(view: View, draw: Callable[[Message, DeltaGenerator], None]) -> None:
    """The answers to the last question, each under the name of its model."""
    with st.container(horizontal=True, gap="small", key="al_chat_side_by_side"):
        for message in view.compared:
            with st.container(border=True, width=WIDTH, key=f"al_chat_beside_{message.id}"):
                st.markdown(f"**{plain(message.model or t('Answer'))}**")
                draw(message, st.container())


def _begin() -> None:
    given = [str(name).strip()[:200] for name in st.session_state.get(_FIELD) or ()]
    names = dict.fromkeys(name for name in given if name and name != chosen_model())
    choices().others = tuple(names)[:MOST_OTHERS]
    tab().dialog_done = True


def _end() -> None:
    choices().others = ()
