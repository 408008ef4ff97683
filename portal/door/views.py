"""Which of its pages the door shows to this tab: the form, or one that a button leads to."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from portal.session import remembered
from portal.texts import t

FORM, SIGN_UP, FORGOTTEN = "", "sign-up", "forgotten"


@dataclass(slots=True)
class View:
    """`notice` stands above the form; `done` is what a stranger's request was answered with."""

    page: str = FORM
    notice: str = ""
    done: str = ""


def view() -> View:
    return remembered(View)


def go_to(page: str, notice: str = "") -> None:
    """For callbacks: another page of the door."""
    state = view()
    state.page, state.notice, state.done = page, notice, ""


def back_button(label: str | None = None) -> None:
    st.button(
        label or t("Back to log in"),
        icon=":material/arrow_back:",
        key="door_back",
        type="tertiary",
        on_click=go_to,
        args=(FORM,),
    )
