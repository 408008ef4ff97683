"""Who the user is here, and where they are signed in."""

import streamlit as st

from papita_core.users.sessions import SignInSession
from portal import wiring
from portal.session import require_user, tab
from portal.texts import t, tn, translated
from portal.words import ago, device, plain

user = require_user("profile")
sessions = wiring.services().papita.sessions


def end(session_id: str) -> None:
    if any(other.id == session_id for other in sessions.of_user(user.session.user_id)):
        sessions.end(session_id)
        tab().notice = t("That session is ended.")


def end_others() -> None:
    count = sessions.end_others(user.session.user_id, keep=user.session.id)
    tab().notice = (
        tn("{count} session ended.", "{count} sessions ended.", count)
        if count
        else t("There was no other session.")
    )


def row(session: SignInSession) -> None:
    here = session.id == user.session.id
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            title = f"**{plain(device(session.user_agent))}**"
            st.markdown(title + " · " + t("this tab") if here else title)
            since, seen = ago(session.created_at), ago(session.last_seen_at)
            if session.address:
                where = plain(session.address)
                st.caption(
                    t(
                        "Signed in from {address}, {since}, last seen {seen}",
                        address=where,
                        since=since,
                        seen=seen,
                    )
                )
            else:
                st.caption(t("Signed in {since}, last seen {seen}", since=since, seen=seen))
        if not here:
            st.button(
                t("End session"),
                key=f"profile_end_{session.id}",
                on_click=end,
                args=(session.id,),
            )


st.title(t("Profile"), anchor=False)
with st.container(border=True):
    st.subheader(plain(user.name), anchor=False)
    st.markdown(
        t(
            "User name **{name}**, role **{role}**",
            name=plain(user.session.username),
            role=translated(user.session.role),
        )
    )

live = sessions.of_user(user.session.user_id)
st.subheader(t("Where you are signed in"), anchor=False)
for session in sorted(live, key=lambda item: item.id != user.session.id):
    row(session)
if len(live) > 1:
    st.button(t("End all other sessions"), icon=":material/devices_off:", on_click=end_others)
