"""Project cards of the dashboard: live state, consent, and the way into a project."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import streamlit as st

from papita_core.credential_types import types_for
from papita_core.errors import PapitaError, ProjectDisabled
from papita_core.projects.catalogue import Project
from portal import navigation, wiring
from portal.launcher import State, Status
from portal.session import SignedIn, actor, require_user, tab

STATES = {
    State.RUNNING: ("Running", "green", ":material/check_circle:"),
    State.STARTING: ("Starting", "blue", ":material/progress_activity:"),
    State.STOPPED: ("Stopped", "gray", ":material/stop_circle:"),
    State.UNHEALTHY: ("Unhealthy", "orange", ":material/warning:"),
}


def show_project(user: SignedIn, project: Project) -> None:
    """One card. A project that is not installed says so and offers nothing."""
    with st.container(border=True, height="stretch", key=f"dashboard_{project.id}"):
        st.subheader(f"{project.icon} {project.title}", anchor=False)
        st.markdown(project.summary)
        if not project.installed:
            st.badge("Not installed", color="gray", icon=":material/block:")
            st.space("stretch")
            st.caption("This project is not installed on this portal.")
            return
        state = st.empty()
        st.space("stretch")
        off = wiring.services().papita.projects.is_disabled(project.id)
        pressed = st.button(
            f"Open {project.title}",
            type="primary",
            icon=":material/arrow_forward:",
            width="stretch",
            key=f"dashboard_open_{project.id}",
            disabled=off,
        )
        if off:
            tab().launching = None
            with state.container():
                st.badge("Switched off", color="orange", icon=":material/power_settings_new:")
                st.caption(ProjectDisabled.sentence)
            return
        allowed = not pressed or wiring.services().papita.grants.allowed(user.actor, project.id)
        launching = (pressed and allowed) or tab().launching == project.id
        with state.container():
            if launching and not wiring.services().launcher.is_running(project.id):
                _badge(Status(State.STARTING))
            else:
                show_health(project)
        if not allowed:
            ask_consent(project)
        elif launching:
            tab().launching = None
            _launch(project)


@st.fragment(run_every=2)
def show_health(project: Project) -> None:
    """What the project is doing at this moment, looked at every two seconds."""
    require_user("projects:launch", seen=False)
    status = wiring.services().launcher.status(project.id)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _badge(status)
        if status.detail:
            st.caption(status.detail)


def _badge(status: Status) -> None:
    title, color, icon = STATES[status.state]
    st.badge(title, color=color, icon=icon)  # type: ignore[arg-type]


def key_words(project: Project) -> str:
    """The keys that the project may use, in words: `OpenAI-compatible`."""
    return " and ".join(
        types_for(asked)[0].title + ("-compatible" if len(types_for(asked)) > 1 else "")
        for asked in project.credential_types
    )


def launch_next(project_id: str) -> None:
    """The project is launched when the dashboard is drawn again."""
    tab().launching = project_id


def ask_consent(project: Project, then: Callable[[str], None] = launch_next) -> None:
    """The question that is asked once, before a project may borrow a key.

    `then` is called with the project's id once it is allowed.
    """
    tab().dialog_done = False
    _consent(project, then)


@st.dialog("Allow the use of your key", icon=":material/verified_user:")
def _consent(project: Project, then: Callable[[str], None]) -> None:
    require_user("projects:launch")
    if tab().dialog_done:
        tab().dialog_done = False
        st.rerun(scope="app")
    st.markdown(
        f"**{project.title} may use your {key_words(project)} key while it writes an answer.** It"
        " borrows the key for minutes, never keeps it, and every use is recorded. You can take"
        " this back at any time under Connected apps."
    )
    problem = tab().errors.get("consent", {}).get("form")
    if problem:
        st.error(problem)
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.button("Not now", key="consent_no", on_click=_answer, args=(project.id, None))
        st.button(
            "Allow",
            key="consent_yes",
            type="primary",
            on_click=_answer,
            args=(project.id, then),
        )


def _answer(project_id: str, then: Callable[[str], None] | None) -> None:
    state = tab()
    state.errors.pop("consent", None)
    if then is not None:
        try:
            wiring.services().papita.grants.allow(actor(), project_id)
        except PapitaError as error:
            state.errors["consent"] = {"form": str(error)}
            return
        then(project_id)
    state.dialog_done = True


def _launch(project: Project) -> None:
    problem = start_with_progress(project.id, project.title)
    if problem:
        st.error(problem, icon=":material/error:")
    else:
        st.switch_page(navigation.page(project.id))


def start_with_progress(project_id: str, title: str) -> str | None:
    """Starts a project if it is not running and shows how long it takes; the problem, if any.

    The work is done in a thread of its own: a click or a closed tab ends this script, not it.
    """
    launcher = wiring.services().launcher
    problem: list[str] = []

    def start() -> None:
        try:
            launcher.ensure_running(project_id)
        except PapitaError as error:
            problem.append(str(error))

    worker = threading.Thread(target=start, name=f"start-{project_id}", daemon=True)
    worker.start()
    worker.join(0.3)
    if worker.is_alive():
        began = time.monotonic()
        with st.status(f"Starting {title}", type="compact") as status:
            while worker.is_alive():
                worker.join(0.5)
                seconds = int(time.monotonic() - began)
                status.update(label=f"Starting {title} … {seconds} s")
            status.update(state="error" if problem else "complete")
    return problem[0] if problem else None
