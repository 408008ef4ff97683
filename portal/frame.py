"""What stands around every page: the logo, and at the foot of the sidebar the user."""

from __future__ import annotations

import streamlit as st

from portal import sign_in
from portal.session import SignedIn, tab
from portal.wiring import ASSETS, MARK


def show_logo() -> None:
    """The wordmark in the ink that fits the theme."""
    theme = "dark" if st.context.theme.type == "dark" else "light"
    st.logo(str(ASSETS / f"wordmark-{theme}.svg"), size="large", icon_image=str(MARK))


def show_account(user: SignedIn) -> None:
    """Name and `Log out`, below whatever the page puts into the sidebar."""
    notice = tab().notice
    if notice:
        tab().notice = None
        st.toast(notice)
    with st.sidebar.container(key="account"):
        st.caption(f":material/person: {user.name}")
        sign_in.log_out_button()
