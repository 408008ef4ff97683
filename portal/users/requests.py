"""What strangers have asked for at the door and administrators answer: accounts, new passwords."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import streamlit as st

from papita_core.users.directory import ASKED, WAITING, Counts, ListedUser, UserFilter
from portal import wiring
from portal.people import show_person
from portal.session import SignedIn, actor
from portal.texts import t, tn
from portal.users.actions import decide, make_link
from portal.words import ago

AT_ONCE: Final = 25


def show_requests(user: SignedIn, counts: Counts) -> None:
    if not (counts.waiting or counts.reset_asked):
        st.info(t("Nobody waits for an answer."), icon=":material/done_all:")
        return
    if counts.waiting:
        st.subheader(t("Signed up, waiting for approval"), anchor=False)
        _show(user, WAITING, counts.waiting)
    if counts.reset_asked:
        st.subheader(t("Asked for a new password"), anchor=False)
        st.caption(
            t(
                "Anybody can ask this for any name. Make sure that it is they before you give"
                " somebody the link: call them, or see them."
            )
        )
        _show(user, ASKED, counts.reset_asked)


def _show(user: SignedIn, state: str, count: int) -> None:
    papita = wiring.services().papita
    items = papita.users.page(user.actor, UserFilter(state=state), limit=AT_ONCE).items
    colours = papita.preferences.colours(user.actor, [other.id for other in items])
    with st.container(gap="small"):
        for other in items:
            _row(other, state, colours)
    if count > len(items):
        st.caption(
            tn(
                "{count} more comes up as you answer these.",
                "{count} more come up as you answer these.",
                count - len(items),
            )
        )


def _row(other: ListedUser, state: str, colours: Mapping[str, str]) -> None:
    asked = other.waiting_since if state == WAITING else other.reset_asked_at
    parts = [other.username, *([other.email] if other.email else [])]
    if asked is not None:
        parts.append(t("asked {when}", when=ago(asked)))
    with st.container(
        border=True, horizontal=True, vertical_alignment="center", key=f"users_{state}_{other.id}"
    ):
        with st.container():
            show_person(other.name, colours.get(other.id, ""), " · ".join(parts))
        with st.container(horizontal=True, width="content"):
            (_answer_sign_up if state == WAITING else _answer_reset)(other)


def _answer_sign_up(other: ListedUser) -> None:
    users = wiring.services().papita.users
    if st.button(t("Approve"), icon=":material/check:", key=f"users_approve_{other.id}"):
        decide(
            lambda: users.approve(actor(), other.username),
            t("{name} can log in now.", name=other.username),
        )
    if st.button(t("Refuse"), icon=":material/close:", key=f"users_refuse_{other.id}"):
        decide(
            lambda: users.refuse(actor(), other.username),
            t("The request of {name} is gone.", name=other.username),
        )


def _answer_reset(other: ListedUser) -> None:
    users = wiring.services().papita.users
    if st.button(t("Make link"), icon=":material/link:", key=f"users_link_{other.id}"):
        make_link(other)
    if st.button(t("Dismiss"), icon=":material/close:", key=f"users_dismiss_{other.id}"):
        decide(
            lambda: users.dismiss_reset(actor(), other.username),
            t("The request of {name} is gone.", name=other.username),
        )
