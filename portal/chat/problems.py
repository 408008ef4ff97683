"""What goes wrong in a chat: a sentence where the answer would be, and a next step as a button."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal

import streamlit as st

from papita_core.credential_types import meets
from portal import navigation, wiring
from portal.chat.actions import discard_unsent, open_conversation, send_again, try_again
from portal.chat.dictation import discard, listen_again
from portal.chat.steering import choose_another_model, go_on
from portal.chat.view import Problem
from portal.credential_form import add_credential, replace_credential
from portal.project_cards import ask_consent, start_with_progress
from portal.session import SignedIn, tab
from portal.texts import t
from portal.words import plain

# What another model may do better.
OF_THE_KEY = (
    *("credential-missing", "credential-rejected", "credential-expired"),
    *("credential-disabled", "budget-exceeded"),
)
OF_THE_MODEL = frozenset(
    {"model-not-found", "context-too-long", "content-filtered", "rate-limited", "provider-error"}
)


def show_problem(
    user: SignedIn, problem: Problem, *, offer: bool = True, unsent: bool = False
) -> None:
    """The sentence, and what can be done about it as buttons."""
    st.error(plain(problem.sentence), icon=":material/error:")
    if not offer:
        return
    key = problem.answer_id or problem.user_message_id or problem.recording
    key = key or ("unsent" if unsent else "page")
    with st.container(horizontal=True):
        if problem.message_id is not None:
            show_continue(problem.message_id)
        if problem.code == "alchat-unreachable":
            launcher = wiring.services().launcher
            if launcher.can_start(wiring.AL_CHAT):
                st.button(
                    t("Start AL-Chat"),
                    icon=":material/play_arrow:",
                    type="primary",
                    key=f"al_chat_start_{key}",
                    on_click=_want_start,
                )
        elif problem.code in OF_THE_KEY and not user.actor.may("credentials:write"):
            st.markdown(t("Ask an administrator to share a key with you."))
        elif problem.code == "credential-missing":
            if st.button(
                t("Add a key"), icon=":material/key:", type="primary", key=f"al_chat_key_{key}"
            ):
                add_credential(then=lambda: _go_on(problem, unsent=unsent))
        elif problem.code in ("credential-rejected", "credential-expired"):
            if st.button(
                t("Replace the key"),
                icon=":material/key:",
                type="primary",
                key=f"al_chat_key_{key}",
            ):
                _replace_key(user, lambda: _go_on(problem, unsent=unsent))
        elif problem.code == "consent-required":
            if st.button(
                t("Allow again") if problem.begun else t("Allow AL-Chat"),
                icon=":material/verified_user:",
                type="primary",
                key=f"al_chat_allow_{key}",
            ):
                project = wiring.services().papita.projects.get(wiring.AL_CHAT)
                ask_consent(project, lambda _: _go_on(problem, unsent=unsent))
        elif problem.code in (
            "credential-disabled",
            "budget-exceeded",
            "transcription-unavailable",
        ):
            _link("credentials", t("Open credentials"), key, primary=True)
        elif problem.code == "project-disabled" and user.actor.may("projects:manage"):
            _link("projects", t("Open projects"), key, primary=True)
        elif problem.code == "conversation-missing":
            st.button(
                t("New chat"),
                key="al_chat_new_instead",
                on_click=open_conversation,
                args=(None,),
            )
        if unsent:
            st.button(
                t("Send again"), icon=":material/send:", key="al_chat_send", on_click=send_again
            )
            st.button(t("Discard"), key="al_chat_discard", type="tertiary", on_click=discard_unsent)
        elif problem.recording is not None:
            _show_about_recording(problem.recording)
        elif problem.user_message_id is not None:
            if problem.code == "rate-limited" and time.time() < problem.wait_until:
                _count_down(problem.wait_until, key)
            else:
                st.button(
                    t("Try again"),
                    icon=":material/refresh:",
                    key=f"al_chat_again_{key}",
                    on_click=try_again,
                    args=(problem.user_message_id, problem.beside),
                )
            if problem.code in OF_THE_MODEL and problem.answer_id is not None:
                st.button(
                    t("Choose another model"),
                    icon=":material/model_training:",
                    key=f"al_chat_model_{key}",
                    on_click=choose_another_model,
                    args=(problem.answer_id,),
                )
        elif problem.code not in ("conversation-missing", "consent-required"):
            st.button(t("Try again"), icon=":material/refresh:", key=f"al_chat_reload_{key}")
        if problem.code == "quota-exceeded" and user.actor.may("credentials:write"):
            _link("credentials", t("Open credentials"), key)


def _show_about_recording(key: str) -> None:
    st.button(
        t("Try again"),
        icon=":material/refresh:",
        key=f"al_chat_again_{key}",
        on_click=listen_again,
        args=(key,),
    )
    st.button(
        t("Discard"),
        key=f"al_chat_discard_{key}",
        type="tertiary",
        on_click=discard,
        args=(key,),
    )


@st.fragment(run_every=1.0)
def _count_down(until: float, key: str) -> None:
    """The button, which cannot be clicked before the provider's time is over."""
    left = math.ceil(until - time.time())
    if left <= 0:
        st.rerun(scope="app")
    words = (
        t("Try again in {seconds} s", seconds=left)
        if left < 100
        else t("Try again in {minutes} min", minutes=math.ceil(left / 60))
    )
    st.button(
        words,
        icon=":material/hourglass_top:",
        key=f"al_chat_wait_{key}",
        disabled=True,
    )


def show_continue(message_id: str) -> None:
    """The button that goes on with an answer that was broken off."""
    st.button(
        t("Continue"),
        icon=":material/play_arrow:",
        key=f"al_chat_continue_{message_id}",
        on_click=go_on,
        args=(message_id,),
    )


def _link(page: str, label: str, key: str, *, primary: bool = False) -> None:
    kind: Literal["primary", "secondary"] = "primary" if primary else "secondary"
    icon = navigation.entry(page).icon
    if st.button(label, icon=icon, type=kind, key=f"al_chat_{page}_{key}"):
        st.switch_page(navigation.page(page))


def _go_on(problem: Problem, *, unsent: bool) -> None:
    """What failed is tried again, now that the cause is gone."""
    if unsent:
        send_again()
    elif problem.recording is not None:
        listen_again(problem.recording)
    elif problem.user_message_id is not None:
        try_again(problem.user_message_id, problem.beside)


def _want_start() -> None:
    """The next run of the page starts AL-Chat, whichever of its problems it then shows."""
    tab().starting = True


def start_if_wanted() -> None:
    """Starts AL-Chat where the user has asked for it, before anything else is drawn."""
    state = tab()
    if not state.starting:
        return
    state.models_until = 0.0
    problem = start_with_progress(wiring.AL_CHAT, "AL-Chat")
    state.starting = False
    if problem:
        st.error(plain(problem))
        return
    if state.unsent is not None:
        send_again()
    st.rerun()


def _replace_key(user: SignedIn, then: Callable[[], None]) -> None:
    """The form for the key that failed; where that is not the user's own, the list of keys."""
    papita = wiring.services().papita
    asked = papita.projects.get(wiring.AL_CHAT).credential_types[:1]
    mine = [
        item
        for item in papita.credentials.list(user.actor, limit=200).items
        if item.project_id in (None, wiring.AL_CHAT)
        and any(meets(item.credential_type, kind) for kind in asked)
    ]
    used = papita.grants.which(user.actor, wiring.AL_CHAT).credential
    if used is not None:
        mine = [item for item in mine if item.id == used.id]
    if mine:
        replace_credential(min(mine, key=lambda item: item.project_id is None), then=then)
    else:
        st.switch_page(navigation.page("credentials"))
