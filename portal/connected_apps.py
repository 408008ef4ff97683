"""Draws what one project may do with the user's keys, and what it has done with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from papita_core.errors import PapitaError
from papita_core.grants.service import Grant, Read
from papita_core.projects.catalogue import Project
from portal import wiring
from portal.confirm import attempt
from portal.project_cards import ask_consent, key_words
from portal.session import SignedIn, actor, tab
from portal.which_key import which_line
from portal.words import ago, plain, plural

PAGE_SIZE = 20
MOST = 200
OUTCOMES = {
    "ok": "Lent",
    "consent-required": "Refused: not allowed",
    "credential-not-found": "Refused: no fitting key",
    "credential-missing": "Refused: no fitting key",
    "credential-disabled": "Refused: switched off",
    "credential-expired": "Refused: expired",
    "budget-exceeded": "Refused: budget used up",
    "project-disabled": "Refused: project off",
    "session-ended": "Refused: signed out",
    "secret-unreadable": "Refused: unreadable",
    "rate-limited": "Refused: too many",
}
SHORT = 8


def show_app(user: SignedIn, project: Project, grants: Sequence[Grant]) -> None:
    """One project: what it may use, since when, which key that is, how often; and taking it back.

    `grants` are those of this project; none where it may not use anything.
    """
    reads = wiring.services().papita.grants.reads(user.actor, project.id, limit=MOST)
    off = wiring.services().papita.projects.is_disabled(project.id)
    with st.container(border=True, key=f"connected_apps_{project.id}"):
        with st.container(
            horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
        ):
            with st.container(
                horizontal=True, vertical_alignment="center", gap="small", width="content"
            ):
                st.subheader(f"{project.icon} {project.title}", anchor=False, width="content")
                _badge(allowed=bool(grants), off=off)
            _switch(project, allowed=bool(grants))
        if grants:
            st.markdown(
                f"May use your **{key_words(project)}** key, allowed {ago(grants[0].created_at)}."
            )
            _which(user, project)
        else:
            st.markdown(
                f"Gets none of your keys. To let it use your **{key_words(project)}** key, press"
                " **Allow**, or open it from the dashboard, where it asks."
            )
        st.caption(_how_often(reads.items, more=reads.next_cursor is not None))
        if reads.items:
            _show_reads(user, project, reads.items)


def _badge(*, allowed: bool, off: bool) -> None:
    if off:
        st.badge("Switched off", color="orange", icon=":material/power_settings_new:")
    elif allowed:
        st.badge("Allowed", color="green", icon=":material/check:")
    else:
        st.badge("Not allowed", color="gray", icon=":material/link_off:")


def _switch(project: Project, *, allowed: bool) -> None:
    if allowed:
        st.button(
            "Revoke",
            icon=":material/link_off:",
            key=f"connected_apps_revoke_{project.id}",
            on_click=_revoke,
            args=(project,),
        )
    elif st.button(
        "Allow", icon=":material/verified_user:", key=f"connected_apps_allow_{project.id}"
    ):
        ask_consent(project, _allowed)


def _revoke(project: Project) -> None:
    attempt(
        lambda: wiring.services().papita.grants.revoke(actor(), project.id),
        f"{project.title} may not use your keys any more. What it is writing stops within seconds.",
    )


def _allowed(project_id: str) -> None:
    title = wiring.services().papita.projects.get(project_id).title
    tab().notice = f"{title} may use your key now."


def _which(user: SignedIn, project: Project) -> None:
    """The key that the project would get now, and why that one; or why none."""
    try:
        st.markdown(
            which_line(project, wiring.services().papita.grants.which(user.actor, project.id))
        )
    except PapitaError as error:
        st.markdown(plain(str(error)))


def _how_often(reads: Sequence[Read], *, more: bool) -> str:
    lent = [read for read in reads if read.outcome == "ok"]
    if not lent:
        return "It has read no key yet." if not reads else "It was lent no key of late."
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = sum(read.at >= midnight for read in lent)
    over = more and today == len(lent)
    times = f"more than {plural(today, 'time')}" if over else plural(today, "time")
    return f"Read a key {times if today else 'not once'} today, last {ago(lent[0].at, now)}."


def _show_reads(user: SignedIn, project: Project, newest: Sequence[Read]) -> None:
    """Every read, paged. Nothing is asked of the database for those that are not shown."""
    key = f"connected_apps_shown_{project.id}"
    shown = st.session_state.setdefault(key, PAGE_SIZE)
    with st.expander("Every read", icon=":material/receipt_long:"):
        reads, more = _first(user, project, newest, shown)
        st.markdown("\n".join(_line(read) for read in reads))
        if more and st.button("Show more", key=f"{key}_more"):
            st.session_state[key] = shown + 5 * PAGE_SIZE
            st.rerun()


def _first(
    user: SignedIn, project: Project, newest: Sequence[Read], count: int
) -> tuple[list[Read], bool]:
    """The newest `count` reads, and whether there are more."""
    if len(newest) > count or len(newest) < MOST:
        return list(newest[:count]), len(newest) > count
    grants = wiring.services().papita.grants
    found: list[Read] = []
    cursor = None
    while len(found) <= count:
        page = grants.reads(user.actor, project.id, cursor=cursor, limit=MOST)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    return found[:count], len(found) > count


def _line(read: Read) -> str:
    """When, which key, how it ended, for which run. Phones have no room for a table."""
    label = read.label or ("a deleted key" if read.credential_id else "no key")
    run = f" · run `{read.run_id[-SHORT:]}`" if read.run_id else ""
    outcome = OUTCOMES.get(read.outcome, "Refused")
    return f"- {read.at:%Y-%m-%d %H:%M:%S} UTC · **{plain(label)}** · {outcome}{run}"
