"""The head of the Profile page, and which of its sections is open; the address keeps that."""

from __future__ import annotations

from typing import Final

import streamlit as st

from papita_core.users.account import Account
from portal.people import show_person
from portal.session import SignedIn
from portal.texts import N_, t, translated

QUERY: Final = "section"
KEY: Final = "profile_section"
SECTIONS: Final = {
    "details": ":material/badge: {}",
    "security": ":material/shield: {}",
    "sessions": ":material/devices: {}",
    "activity": ":material/history: {}",
    "data": ":material/folder_open: {}",
}
TITLES: Final = {
    "details": N_("Details"),
    "security": N_("Security"),
    "sessions": N_("Sessions"),
    "activity": N_("Activity"),
    "data": N_("Data"),
}


def show_head(user: SignedIn, account: Account) -> None:
    facts = [account.username, translated(account.role), *filter(None, [account.email])]
    with st.container(border=True):
        show_person(user.name, user.session.appearance.colour, " · ".join(facts), size=3.5)


def choose_section() -> str:
    """The name of the section that is open."""
    asked = st.query_params.get(QUERY, "")
    if KEY not in st.session_state:
        st.session_state[KEY] = asked if asked in SECTIONS else next(iter(SECTIONS))
    chosen = st.segmented_control(
        t("Section"),
        list(SECTIONS),
        required=True,
        format_func=lambda name: SECTIONS[name].format(translated(TITLES[name])),
        key=KEY,
        label_visibility="collapsed",
        on_change=_keep,
        width="stretch",
    )
    return chosen or next(iter(SECTIONS))


def _keep() -> None:
    st.query_params[QUERY] = st.session_state[KEY]
