"""What a stranger sees: the sign-in form with its second step and what leads on from it, the page
of an invitation or of a link for a new password or, as long as there is no user, the set-up form.
"""

from __future__ import annotations

import streamlit as st

from papita_core.app import Papita
from portal import sign_in, wiring
from portal.brand import show_wordmark
from portal.door import links
from portal.door.farewell import show_farewell
from portal.door.forgotten import show_forgotten, show_forgotten_button
from portal.door.passkey import show_passkey_button
from portal.door.providers import show_problem, show_providers
from portal.door.second_step import second_step, show_second_step
from portal.door.set_up import show_set_up
from portal.door.sign_up import show_sign_up, show_sign_up_button
from portal.door.views import FORGOTTEN, SIGN_UP, view
from portal.identity_providers import show_way
from portal.session import SignedIn, tab
from portal.texts import t


def is_wanted(user: SignedIn | None) -> bool:
    """By strangers, and by whoever has opened a link that is meant for one."""
    return user is None or links.opened() is not None


def show_door(user: SignedIn | None = None) -> None:
    papita = wiring.services().papita
    with st.container(horizontal_alignment="center"), st.container(width=380, gap="medium"):
        show_wordmark()
        show_farewell()
        if papita.setup.pending():
            show_set_up(papita)
        elif (link := links.opened()) is not None:
            links.show_link(papita, *link, user)
        elif (step := second_step()) is not None:
            show_second_step(papita, step)
        elif view().page == SIGN_UP:
            show_sign_up(papita)
        elif view().page == FORGOTTEN:
            show_forgotten()
        else:
            _show_form(papita)


def _show_form(papita: Papita) -> None:
    st.title(t("Log in to Papita"), anchor=False)
    if view().notice:
        st.success(view().notice, icon=":material/check_circle:")
    problem = tab().errors.pop("door", {}).get("form")
    if problem:
        st.info(problem, icon=":material/schedule:")
    show_problem()
    sign_in.show_form(below=show_providers)
    show_passkey_button(papita)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        show_forgotten_button()
        show_sign_up_button(papita)
    show_way()
