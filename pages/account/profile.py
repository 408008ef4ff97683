"""Who the user is here, and where they are signed in."""

import streamlit as st

from papita_core.users.sessions import SignInSession
from portal import wiring
from portal.session import require_user, tab
from portal.words import ago, device, plain

user = require_user("profile")
sessions = wiring.services().papita.sessions


def end(session_id: str) -> None:
    if any(other.id == session_id for other in sessions.of_user(user.session.user_id)):
        sessions.end(session_id)
        tab().notice = "That session is ended."


def end_others() -> None:
    count = sessions.end_others(user.session.user_id, keep=user.session.id)
    tab().notice = "There was no other session." if not count else f"{count} ended."


def row(session: SignInSession) -> None:
    here = session.id == user.session.id
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            st.markdown(
                f"**{plain(device(session.user_agent))}**" + (" · this tab" if here else "")
            )
            where = f"from {plain(session.address)}, " if session.address else ""
            st.caption(
                f"Signed in {where}{ago(session.created_at)}, last seen {ago(session.last_seen_at)}"
            )
        if not here:
            st.button(
                "End session", key=f"profile_end_{session.id}", on_click=end, args=(session.id,)
            )


st.title("Profile", anchor=False)
with st.container(border=True):
    st.subheader(plain(user.name), anchor=False)
    st.markdown(f"User name **{plain(user.session.username)}**, role **{user.session.role}**")

live = sessions.of_user(user.session.user_id)
st.subheader("Where you are signed in", anchor=False)
for session in sorted(live, key=lambda item: item.id != user.session.id):
    row(session)
if len(live) > 1:
    st.button("End all other sessions", icon=":material/devices_off:", on_click=end_others)
