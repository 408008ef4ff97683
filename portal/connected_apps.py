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
from portal.texts import N_, said, t, tn, translated
from portal.which_key import which_line
from portal.words import ago, local, plain

PAGE_SIZE = 20
MOST = 200
OUTCOMES = {
    "ok": N_("Lent"),
    "consent-required": N_("Refused: not allowed"),
    "credential-not-found": N_("Refused: no fitting key"),
    "credential-missing": N_("Refused: no fitting key"),
    "credential-disabled": N_("Refused: switched off"),
    "credential-expired": N_("Refused: expired"),
    "budget-exceeded": N_("Refused: budget used up"),
    "project-disabled": N_("Refused: project off"),
    "session-ended": N_("Refused: signed out"),
    "secret-unreadable": N_("Refused: unreadable"),
    "rate-limited": N_("Refused: too many"),
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
                t(
                    "May use your **{key}** key, allowed {when}.",
                    key=key_words(project),
                    when=ago(grants[0].created_at),
                )
            )
            _which(user, project)
        else:
            st.markdown(
                t(
                    "Gets none of your keys. To let it use your **{key}** key, press **Allow**, or"
                    " open it from the dashboard, where it asks.",
                    key=key_words(project),
                )
            )
        st.caption(_how_often(reads.items, more=reads.next_cursor is not None))
        if reads.items:
            _show_reads(user, project, reads.items)


def _badge(*, allowed: bool, off: bool) -> None:
    if off:
        st.badge(t("Switched off"), color="orange", icon=":material/power_settings_new:")
    elif allowed:
        st.badge(t("Allowed"), color="green", icon=":material/check:")
    else:
        st.badge(t("Not allowed"), color="gray", icon=":material/link_off:")


def _switch(project: Project, *, allowed: bool) -> None:
    if allowed:
        st.button(
            t("Revoke"),
            icon=":material/link_off:",
            key=f"connected_apps_revoke_{project.id}",
            on_click=_revoke,
            args=(project,),
        )
    elif st.button(
        t("Allow"), icon=":material/verified_user:", key=f"connected_apps_allow_{project.id}"
    ):
        ask_consent(project, _allowed)


def _revoke(project: Project) -> None:
    attempt(
        lambda: wiring.services().papita.grants.revoke(actor(), project.id),
        t(
            "{project} may not use your keys any more. What it is writing stops within seconds.",
            project=project.title,
        ),
    )


def _allowed(project_id: str) -> None:
    title = wiring.services().papita.projects.get(project_id).title
    tab().notice = t("{project} may use your key now.", project=title)


def _which(user: SignedIn, project: Project) -> None:
    """The key that the project would get now, and why that one; or why none."""
    try:
        st.markdown(
            which_line(project, wiring.services().papita.grants.which(user.actor, project.id))
        )
    except PapitaError as error:
        st.markdown(plain(said(error)))


def _how_often(reads: Sequence[Read], *, more: bool) -> str:
    lent = [read for read in reads if read.outcome == "ok"]
    if not lent:
        return t("It has read no key yet.") if not reads else t("It was lent no key of late.")
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = sum(read.at >= midnight for read in lent)
    last = ago(lent[0].at, now)
    if not today:
        return t("Read a key not once today, last {when}.", when=last)
    if more and today == len(lent):
        return tn(
            "Read a key more than {count} time today, last {when}.",
            "Read a key more than {count} times today, last {when}.",
            today,
            when=last,
        )
    return tn(
        "Read a key {count} time today, last {when}.",
        "Read a key {count} times today, last {when}.",
        today,
        when=last,
    )


def _show_reads(user: SignedIn, project: Project, newest: Sequence[Read]) -> None:
    """Every read, paged. Nothing is asked of the database for those that are not shown."""
    key = f"connected_apps_shown_{project.id}"
    shown = st.session_state.setdefault(key, PAGE_SIZE)
    with st.expander(t("Every read"), icon=":material/receipt_long:"):
        reads, more = _first(user, project, newest, shown)
        st.markdown("\n".join(_line(read) for read in reads))
        if more and st.button(t("Show more"), key=f"{key}_more"):
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
    label = read.label or (t("a deleted key") if read.credential_id else t("no key"))
    run = " · " + t("run `{id}`", id=read.run_id[-SHORT:]) if read.run_id else ""
    outcome = translated(OUTCOMES.get(read.outcome, N_("Refused")))
    return f"- {local(read.at):%Y-%m-%d %H:%M:%S} · **{plain(label)}** · {outcome}{run}"
