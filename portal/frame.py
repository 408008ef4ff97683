"""What stands around every page: in the sidebar what the page adds, and below it the user."""

from __future__ import annotations

from typing import Final

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from portal import sign_in
from portal.components.theme import wear
from portal.navigation import PAGES
from portal.people import show_person
from portal.session import SignedIn, tab
from portal.words import plain

# Streamlit paints what looks like a link in shades of the primary colour while it is pointed at or
# its menu is open, and so what is chosen of several. That colour has white text on it elsewhere, so
# on a dark page it is too dark itself. Here it is mixed with that of the text around, whichever
# theme is on.
LABELS = """<style>
button[kind^="tertiary"]:not(:disabled):is(:hover, :focus-visible, :active, [aria-expanded=true]),
button[type=button][role=radio][aria-checked=true][data-selected]:not(:disabled) {
  color: color-mix(in oklab, currentColor, #ad5d19);
}
</style>"""
PATHS: Final = tuple(f"/{entry.path}" for entry in PAGES)


def show_account(user: SignedIn) -> None:
    """Reserves the page's part of the sidebar; below it name and `Log out`."""
    st.html(LABELS)
    state = tab()
    if state.notice:
        st.toast(plain(state.notice))
        state.notice = None
    state.sidebar = st.sidebar.container(key="page_sidebar")
    with st.sidebar.container(key="account", gap="small"):
        wear(user.session.appearance.theme, PATHS)
        show_person(user.name, user.session.appearance.colour, size=1.9)
        sign_in.log_out_button()


def page_sidebar() -> DeltaGenerator:
    """Where a page puts what it has for the sidebar."""
    return tab().sidebar or st.sidebar
