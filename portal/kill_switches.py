"""The switch that stops a project for everybody, at this moment."""

from __future__ import annotations

import streamlit as st

from papita_core.projects.catalogue import Project
from papita_core.projects.service import State
from portal import wiring
from portal.confirm import Question, attempt, confirm
from portal.project_cards import show_health
from portal.session import actor
from portal.texts import t, tn
from portal.words import ago

PROJECTS = "projects:manage"


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
