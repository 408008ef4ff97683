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
from portal.dashboard.health import parts_of, show_health_of
from portal.dashboard.recent import last_answer
from portal.dialogs import close_when_done, dialog
from portal.session import SignedIn, actor, require_user, tab
from portal.texts import N_, said, t, translated
from portal.words import all_of


def show_project(user: SignedIn, project: Project) -> None:
    """One card. A project that is not installed says so and offers nothing."""
    with st.container(border=True, height="stretch", key=f"dashboard_{project.id}"):
        st.subheader(f"{project.icon} {project.title}", anchor=False)
        st.markdown(translated(project.summary))
        if not project.installed:
            st.badge(t("Not installed"), color="gray", icon=":material/block:")
            st.space("stretch")
            st.caption(t("This project is not installed on this portal."))
            return
        state = st.empty()
        st.space("stretch")
        off = wiring.services().papita.projects.is_disabled(project.id)
        pressed = st.button(
            t("Open {project}", project=project.title),
            type="primary",
            icon=":material/arrow_forward:",
            width="stretch",
            key=f"dashboard_open_{project.id}",
            disabled=off,
        )
        if off:
            tab().launching = None
            with state.container():
                st.badge(t("Switched off"), color="orange", icon=":material/power_settings_new:")
                st.caption(translated(ProjectDisabled.sentence))
            return
        allowed = not pressed or wiring.services().papita.grants.allowed(user.actor, project.id)
        launching = (pressed and allowed) or tab().launching == project.id
        with state.container():
            if launching and not wiring.services().launcher.is_running(project.id):
                st.badge(t("Starting"), color="blue", icon=":material/progress_activity:")
            else:
                show_health(project)
        if not allowed:
            ask_consent(project)
        elif launching:
            tab().launching = None
            _launch(project)


@st.fragment(run_every=3)
def show_health(project: Project) -> None:
    """How the project is doing for this user at this moment, looked at every three seconds."""
    user = require_user("projects:launch", seen=False)
    status = wiring.services().launcher.status(project.id)
    show_health_of(status, parts_of(user, project, status, last_answer()))


def key_words(project: Project) -> str:
    """The keys that the project may use, in words: `OpenAI-compatible`."""
    found = [types_for(asked) for asked in project.credential_types]
    return all_of(
        t("{provider}-compatible", provider=types[0].title)
        if len(types) > 1
        else translated(types[0].title)
        for types in found
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


@dialog(N_("Allow the use of your key"), on_dismiss="rerun", icon=":material/verified_user:")
def _consent(project: Project, then: Callable[[str], None]) -> None:
    require_user("projects:launch")
    close_when_done()
    st.markdown(
        t(
            "**{project} may use your {key} key while it writes an answer.** It borrows the key for"
            " minutes, never keeps it, and every use is recorded. You can take this back at any"
            " time under Connected apps.",
            project=project.title,
            key=key_words(project),
        )
    )
    problem = tab().errors.get("consent", {}).get("form")
    if problem:
        st.error(problem)
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.button(t("Not now"), key="consent_no", on_click=_answer, args=(project.id, None))
        st.button(
            t("Allow"),
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
            state.errors["consent"] = {"form": said(error)}
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
            problem.append(error.detail)

    worker = threading.Thread(target=start, name=f"start-{project_id}", daemon=True)
    worker.start()
    worker.join(0.3)
    if worker.is_alive():
        began = time.monotonic()
        with st.status(t("Starting {project}", project=title), type="compact") as status:
            while worker.is_alive():
                worker.join(0.5)
                seconds = int(time.monotonic() - began)
                label = t("Starting {project} … {seconds} s", project=title, seconds=seconds)
                status.update(label=label)
            status.update(state="error" if problem else "complete")
    return translated(problem[0]) if problem else None
