"""The users: who there is, who is here, and the switch that keeps one out."""

import streamlit as st

from portal import wiring
from portal.kill_switches import USERS, show_user
from portal.session import require_user
from portal.texts import t, tn

PAGE_SIZE = 25

user = require_user(USERS)
everybody = wiring.services().papita.users.list(user.actor)

st.title(t("Users"), anchor=False)
st.markdown(
    t(
        "Disabling a user ends their sessions, tokens and loans at once and deletes nothing. New"
        " users and passwords are made on the command line: `python -m papita_core users`."
    )
)

wanted = st.text_input(
    t("Find"),
    key="users_find",
    placeholder=t("Name"),
    label_visibility="collapsed",
    icon=":material/search:",
)
needle = (wanted or "").strip().casefold()
found = [
    other
    for other in everybody
    if needle in other.username or needle in other.display_name.casefold()
]
shown = st.session_state.setdefault("users_shown", PAGE_SIZE)
for other in found[:shown]:
    show_user(user, other)
if not found:
    st.markdown(t("No user has this in the name."))
if len(found) > shown and st.button(t("Show more")):
    st.session_state["users_shown"] = shown + 2 * PAGE_SIZE
    st.rerun()
st.caption(
    tn(
        "{count} user, {disabled} disabled",
        "{count} users, {disabled} disabled",
        len(everybody),
        disabled=len([other for other in everybody if other.disabled]),
    )
)
