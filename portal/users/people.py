"""The list of users: found as one types, narrowed by role and state, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import streamlit as st

from papita_core.users.directory import (
    ASKED,
    DISABLED,
    ENABLED,
    LONGEST_SEARCH,
    WAITING,
    WEAK,
    Counts,
    ListedUser,
    UserFilter,
)
from portal import wiring
from portal.people import show_person
from portal.session import SignedIn, remembered
from portal.texts import N_, t, tn, translated
from portal.users.actions import ROLE_NAMES, show_menu
from portal.words import ago, number

# More would make the page slower for whoever has many users than for whoever has ten.
PAGE_SIZE: Final = 12
ANY: Final = "any"
STATES: Final = {
    ANY: N_("Any state"),
    ENABLED: N_("Enabled"),
    DISABLED: N_("Disabled"),
    WAITING: N_("Waiting for approval"),
    ASKED: N_("Asked for a new password"),
    WEAK: N_("Without second factor"),
}


@dataclass(slots=True)
class Turned:
    """The filter that is on, and the cursors of the pages that were turned under it."""

    wanted: UserFilter = field(default_factory=UserFilter)
    cursors: list[str] = field(default_factory=list)


def show_people(user: SignedIn, counts: Counts) -> None:
    users = wiring.services().papita.users
    wanted, state = _filter(), remembered(Turned)
    if wanted != state.wanted:
        state.wanted, state.cursors = wanted, []
    cursors = state.cursors
    page = users.page(user.actor, wanted, cursor=cursors[-1] if cursors else None, limit=PAGE_SIZE)
    if not page.items and cursors:  # those of the last page are gone
        cursors.clear()
        st.rerun()
    found = counts.total if wanted == UserFilter() else users.matching(user.actor, wanted)
    colours = wiring.services().papita.preferences.colours(
        user.actor, [other.id for other in page.items]
    )
    with st.container(gap="small", key="users_list"):
        for other in page.items:
            show_row(user, other, colours)
    if not page.items:
        st.info(t("Nobody fits. Widen the filter to see more."), icon=":material/filter_alt_off:")
    _turn(cursors, page.next_cursor, len(page.items), found)


def _filter() -> UserFilter:
    with st.grid(min_column_width=150, gap="small"):
        text = st.text_input(
            t("Find"),
            type="search",
            key="users_find",
            placeholder=t("Name or e-mail"),
            max_chars=LONGEST_SEARCH,
            live=True,
            label_visibility="collapsed",
        )
        role = st.selectbox(
            t("Role"),
            (ANY, *ROLE_NAMES),
            format_func=lambda name: t("Any role") if name == ANY else translated(name),
            key="users_role",
            label_visibility="collapsed",
        )
        state = st.selectbox(
            t("State"),
            list(STATES),
            format_func=lambda name: translated(STATES[name]),
            key="users_state",
            label_visibility="collapsed",
        )
    return UserFilter(text or "", None if role == ANY else role, None if state == ANY else state)


def show_row(user: SignedIn, other: ListedUser, colours: Mapping[str, str]) -> None:
    """One user: who, what is out of the ordinary, and the menu."""
    with st.container(
        border=True, horizontal=True, vertical_alignment="center", key=f"users_row_{other.id}"
    ):
        with st.container():
            show_person(other.name, colours.get(other.id, ""), describe(other))
        with st.container(
            horizontal=True,
            vertical_alignment="center",
            horizontal_alignment="right",
            gap="small",
            width="content",
        ):
            _show_marks(user, other)
            show_menu(user, other)


def describe(other: ListedUser) -> str:
    """Two lines: name and e-mail; role, whether there is a second factor, when last seen."""
    who = [other.username, *([other.email] if other.email else [])]
    parts = [translated(other.role)]
    parts.append(t("second factor") if other.second_factor else t("no second factor"))
    if other.last_seen_at is None:
        parts.append(t("never seen"))
    else:
        parts.append(t("last seen {when}", when=ago(other.last_seen_at)))
    return " · ".join(who) + "\n" + " · ".join(parts)


def _show_marks(user: SignedIn, other: ListedUser) -> None:
    if other.id == user.session.user_id:
        st.badge(t("You"), color="gray")
    if other.state == WAITING:
        st.badge(t("Waiting"), color="orange", icon=":material/hourglass_top:")
    elif other.disabled:
        st.badge(t("Disabled"), color="red", icon=":material/person_off:")
    if other.reset_asked_at:
        st.badge(t("Wants a password"), color="orange", icon=":material/password:")


def _turn(cursors: list[str], following: str | None, shown: int, found: int) -> None:
    first = len(cursors) * PAGE_SIZE + 1
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        if shown:
            st.caption(
                t(
                    "{first} to {last} of {found}",
                    first=number(first),
                    last=number(first + shown - 1),
                    found=tn("{count} user", "{count} users", found),
                )
            )
        if not (cursors or following):
            return
        with st.container(horizontal=True, width="content"):
            st.button(
                t("Back"),
                icon=":material/chevron_left:",
                key="users_back",
                disabled=not cursors,
                on_click=_back,
                args=(cursors,),
            )
            st.button(
                t("Next"),
                icon=":material/chevron_right:",
                key="users_next",
                disabled=following is None,
                on_click=cursors.append,
                args=(following,),
            )


def _back(cursors: list[str]) -> None:
    if cursors:
        cursors.pop()
