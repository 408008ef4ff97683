"""Where the user is signed in, and the buttons that end it."""

from __future__ import annotations

import streamlit as st

from papita_core.users.sessions import SignInSession
from portal import wiring
from portal.session import SignedIn, tab
from portal.texts import t, tn
from portal.words import ago, device, plain


def show_sessions(user: SignedIn) -> None:
    live = wiring.services().papita.sessions.of_user(user.session.user_id)
    st.subheader(t("Where you are signed in"), anchor=False)
    for session in sorted(live, key=lambda item: item.id != user.session.id):
        _row(user, session)
    if len(live) > 1:
        st.button(
            t("End all other sessions"),
            icon=":material/devices_off:",
            on_click=_end_others,
            args=(user,),
        )


def _end(user: SignedIn, session_id: str) -> None:
    if any(
        other.id == session_id
        for other in wiring.services().papita.sessions.of_user(user.session.user_id)
    ):
        wiring.services().papita.sessions.end(session_id)
        tab().notice = t("That session is ended.")


def _end_others(user: SignedIn) -> None:
    count = wiring.services().papita.sessions.end_others(user.session.user_id, keep=user.session.id)
    tab().notice = (
        tn("{count} session ended.", "{count} sessions ended.", count)
        if count
        else t("There was no other session.")
    )


def _row(user: SignedIn, session: SignInSession) -> None:
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
                on_click=_end,
                args=(user, session.id),
            )
