"""The question before what cannot be undone or hits others: one dialog for every page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from papita_core.errors import PapitaError
from portal.dialogs import close_when_done
from portal.session import require_user, tab
from portal.texts import said, t

ERRORS = "confirm"


@dataclass(frozen=True, slots=True)
class Question:
    """`text` is Markdown. `act` does it and gives back the notice that the page then shows."""

    title: str
    text: str
    button: str
    act: Callable[[], str]
    capability: str
    icon: str = ":material/warning:"


def attempt(act: Callable[[], object], notice: str) -> None:
    """Does at once what needs no question, and says how it went."""
    try:
        act()
    except PapitaError as error:
        notice = said(error)
    tab().notice = notice


def confirm(question: Question) -> None:
    """Asks, and acts only on a yes; what is refused stands in the dialog, which stays open."""
    tab().dialog_done = False
    st.dialog(question.title, icon=question.icon, on_dismiss=_forget)(_ask)(question)


def _ask(question: Question) -> None:
    require_user(question.capability)
    close_when_done()
    st.markdown(question.text)
    problem = tab().errors.get(ERRORS, {}).get("form")
    if problem:
        st.error(problem, icon=":material/error:")
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.button(t("Cancel"), key="confirm_no", on_click=_close)
        if not problem:
            st.button(
                question.button,
                key="confirm_yes",
                type="primary",
                on_click=_act,
                args=(question,),
            )


def _act(question: Question) -> None:
    try:
        notice = question.act()
    except PapitaError as error:
        tab().errors[ERRORS] = {"form": said(error)}
    else:
        _close()
        tab().notice = notice


def _close() -> None:
    _forget()
    tab().dialog_done = True


def _forget() -> None:
    tab().errors.pop(ERRORS, None)
