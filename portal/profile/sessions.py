"""Where the user is signed in, and the buttons that end it."""

from __future__ import annotations

from typing import Final

import streamlit as st

from papita_core.users.sessions import SignInSession
from portal import wiring
from portal.confirm import attempt
from portal.session import SignedIn, actor, tab
from portal.texts import N_, t, tn, translated
from portal.words import ago, device, moment, plain

METHODS: Final = {
    "password": N_("with the password"),
    "passkey": N_("with a passkey"),
    "oidc": N_("through the team's provider"),
    "invitation": N_("by an invitation"),
    "password-reset": N_("by a link for a new password"),
    "set-up": N_("at the set-up"),
}
SECOND_FACTORS: Final = {
    "totp": N_("and a code of the authenticator app"),
    "passkey": N_("and a passkey"),
    "recovery": N_("and a recovery code"),
}
PHONES: Final = ("Android", "iPhone")


def show_sessions(user: SignedIn) -> None:
    live = wiring.services().papita.sessions.of_user(user.session.user_id)
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.subheader(t("Where you are signed in"), anchor=False, width="content")
        if len(live) > 1:
            st.button(
                t("Sign out everywhere else"),
                icon=":material/devices_off:",
                on_click=_end_others,
            )
    for session in sorted(live, key=lambda item: item.id != user.session.id):
        _row(user, session)
    st.caption(t("A session that is ended here is over within seconds, also in an open tab."))


def how(session: SignInSession) -> str:
    """`with the password and a passkey`."""
    words = translated(METHODS.get(session.method, session.method))
    second = SECOND_FACTORS.get(session.second_factor or "")
    if second is None or session.method == session.second_factor:
        return words
    return f"{words} {translated(second)}"


def _row(user: SignedIn, session: SignInSession) -> None:
    here = session.id == user.session.id
    icon = "smartphone" if any(it in session.user_agent for it in PHONES) else "computer"
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(
                    f":material/{icon}: **{plain(device(session.user_agent))}**", width="content"
                )
                if here:
                    st.badge(t("This session"), color="green", icon=":material/check:")
            facts = [
                t("Signed in {how}", how=how(session)),
                t("on {when}", when=moment(session.created_at)),
            ]
            if session.address:
                facts.insert(1, t("from {address}", address=plain(session.address)))
            st.caption(" ".join(facts) + ". " + t("Last seen {when}.", when=_seen(session, here)))
        if not here:
            st.button(
                t("End session"),
                key=f"profile_end_{session.id}",
                on_click=_end,
                args=(session.id,),
            )


def _seen(session: SignInSession, here: bool) -> str:
    return t("just now") if here else ago(session.last_seen_at)


def _end(session_id: str) -> None:
    attempt(
        lambda: wiring.services().papita.account.end_session(actor(), session_id),
        t("That session is ended."),
    )


def _end_others() -> None:
    count = wiring.services().papita.account.end_other_sessions(actor())
    tab().notice = (
        tn("{count} session ended.", "{count} sessions ended.", count)
        if count
        else t("There was no other session.")
    )
