"""For whoever cannot log in: asks an administrator for a link, whether there is an account or not.

The answer is the same for a name that nobody has.
"""

from __future__ import annotations

import streamlit as st

from papita_core.errors import PapitaError
from portal import wiring
from portal.door.views import FORGOTTEN, back_button, go_to, view
from portal.session import address, tab
from portal.texts import said, t


def show_forgotten_button() -> None:
    st.button(
        t("Forgotten your password?"),
        key="door_forgotten",
        type="tertiary",
        on_click=go_to,
        args=(FORGOTTEN,),
    )


def show_forgotten() -> None:
    st.title(t("Forgotten your password?"), anchor=False)
    if view().done:
        st.success(
            t(
                "Your request is noted. If there is an account of this name or e-mail, the"
                " administrators see that it asks, and will give you a link with which you set a"
                " new password yourself. If it is urgent, ask one of them."
            ),
            icon=":material/check_circle:",
        )
        back_button()
        return
    st.markdown(
        t(
            "Nobody can read your password, administrators included. Ask them for a link with which"
            " you set a new one."
        )
    )
    with st.form("forgotten", border=False):
        st.text_input(
            t("Username or e-mail"), key="forgotten_name", autocomplete="username", max_chars=320
        )
        problem = tab().errors.get("forgotten", {}).get("form")
        if problem:
            st.error(problem, icon=":material/error:")
        st.form_submit_button(t("Ask for a link"), type="primary", width="stretch", on_click=_ask)
    back_button()


def _ask() -> None:
    name = (st.session_state.get("forgotten_name") or "").strip()
    errors = tab().errors["forgotten"] = {}
    if not name:
        errors["form"] = t("Enter your user name or your e-mail.")
        return
    try:
        wiring.services().papita.sign_up.forgotten(name, address=address())
    except PapitaError as error:
        errors["form"] = said(error)
    else:
        view().done = FORGOTTEN
