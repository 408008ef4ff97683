"""What an administrator can stop at this moment: a project for everybody, or a user."""

from __future__ import annotations

import streamlit as st

from papita_core.projects.catalogue import Project
from papita_core.projects.service import State
from papita_core.users.service import User
from portal import wiring
from portal.confirm import Question, attempt, confirm
from portal.project_cards import show_health
from portal.session import SignedIn, actor
from portal.texts import N_, t, tn, translated
from portal.words import ago, plain

USERS, PROJECTS = "users:manage", "projects:manage"
ROLES = (N_("administrator"), N_("member"), N_("guest"))


# --- users ---


def show_user(user: SignedIn, other: User) -> None:
    """One user: role, whether they may come in, when they were seen; and the switch."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{plain(other.display_name or other.username)}**", width="content")
                if other.disabled:
                    st.badge(t("Disabled"), color="red", icon=":material/person_off:")
                if other.id == user.session.user_id:
                    st.badge(t("You"), color="gray")
            st.caption(f"{plain(other.username)}, {translated(other.role)}. {_seen(other)}")
        if other.disabled:
            st.button(
                t("Enable"),
                icon=":material/person_check:",
                key=f"users_enable_{other.id}",
                on_click=_enable_user,
                args=(other,),
            )
        elif st.button(t("Disable"), icon=":material/person_off:", key=f"users_disable_{other.id}"):
            confirm(
                Question(
                    t("Disable user"),
                    _what_happens_to(other, own=other.id == user.session.user_id),
                    t("Disable"),
                    lambda: _disable_user(other),
                    USERS,
                )
            )


def _seen(other: User) -> str:
    if other.disabled:
        return t("Cannot sign in.")
    live = wiring.services().papita.sessions.of_user(other.id)
    if not live:
        return t("Not signed in.")
    return t("Last seen {when}.", when=ago(live[0].last_seen_at))


def _what_happens_to(other: User, *, own: bool) -> str:
    text = t(
        "Disable **{name}**? From this moment {name} is signed out everywhere, access tokens stop"
        " working, and what projects have borrowed for them is taken back: an answer that is being"
        " written ends within seconds. Nothing is deleted.",
        name=plain(other.username),
    )
    return text + " " + t("**This is you: you will be signed out.**") if own else text


def _disable_user(other: User) -> str:
    wiring.services().papita.users.set_disabled(actor(), other.username, True)
    return t("{name} is disabled and signed out everywhere.", name=other.username)


def _enable_user(other: User) -> None:
    attempt(
        lambda: wiring.services().papita.users.set_disabled(actor(), other.username, False),
        t("{name} can sign in again.", name=other.username),
    )


# --- projects ---


def show_project_switch(state: State) -> None:
    """One project: on or off, its health, how many may use it; and the switch."""
    project, off = state.project, state.disabled_at is not None
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"{project.icon} **{project.title}**", width="content")
                if off:
                    st.badge(
                        t("Switched off"), color="orange", icon=":material/power_settings_new:"
                    )
                if project.installed:
                    show_health(project)
                else:
                    st.badge(t("Not installed"), color="gray", icon=":material/block:")
            if state.disabled_at is not None:
                when = ago(state.disabled_at)
                st.caption(t("Switched off {when}. Nobody can open it.", when=when))
            if project.installed:
                st.caption(
                    tn(
                        "{count} user allows it to use a key.",
                        "{count} users allow it to use a key.",
                        state.users,
                    )
                )
        if not project.installed:
            return
        if off:
            st.button(
                t("Switch on"),
                icon=":material/play_arrow:",
                key=f"projects_on_{project.id}",
                on_click=_enable_project,
                args=(project,),
            )
        elif st.button(
            t("Switch off"), icon=":material/power_settings_new:", key=f"projects_off_{project.id}"
        ):
            confirm(
                Question(
                    t("Switch off project"),
                    t(
                        "Switch **{project}** off for everybody? This ends what it has borrowed at"
                        " this moment: answers that are being written stop within seconds, and what"
                        " was written stays. Nobody can open it until you switch it on again.",
                        project=project.title,
                    ),
                    t("Switch off"),
                    lambda: _disable_project(project),
                    PROJECTS,
                )
            )


def _disable_project(project: Project) -> str:
    wiring.services().papita.projects.set_disabled(actor(), project.id, True)
    return t(
        "{project} is switched off; what it had borrowed is taken back.", project=project.title
    )


def _enable_project(project: Project) -> None:
    attempt(
        lambda: wiring.services().papita.projects.set_disabled(actor(), project.id, False),
        t("{project} is on again.", project=project.title),
    )
