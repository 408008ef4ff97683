"""What a stranger sees: the sign-in form or, as long as there is no user, the set-up form."""

from __future__ import annotations

import streamlit as st

from portal import sign_in, wiring
from portal.brand import show_wordmark
from portal.door.set_up import show_set_up
from portal.texts import t


def show_door() -> None:
    papita = wiring.services().papita
    with st.container(horizontal_alignment="center"), st.container(width=380, gap="medium"):
        show_wordmark()
        if papita.setup.pending():
            show_set_up(papita)
        else:
            st.title(t("Log in to Papita"), anchor=False)
            sign_in.show_form()
