"""What a stranger sees: the sign-in form and its second step, or the set-up form for the first."""

from __future__ import annotations

import streamlit as st

from portal import sign_in, wiring
from portal.brand import show_wordmark
from portal.door.farewell import show_farewell
from portal.door.passkey import show_passkey_button
from portal.door.second_step import second_step, show_second_step
from portal.door.set_up import show_set_up
from portal.session import tab
from portal.texts import t


def show_door() -> None:
    papita = wiring.services().papita
    with st.container(horizontal_alignment="center"), st.container(width=380, gap="medium"):
        show_wordmark()
        show_farewell()
        if papita.setup.pending():
            show_set_up(papita)
        elif (step := second_step()) is not None:
            show_second_step(papita, step)
        else:
            st.title(t("Log in to Papita"), anchor=False)
            problem = tab().errors.pop("door", {}).get("form")
            if problem:
                st.info(problem, icon=":material/schedule:")
            sign_in.show_form()
            show_passkey_button(papita)
