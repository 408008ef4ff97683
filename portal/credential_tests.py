"""Asks providers whether keys work, in the background, and shows what they said last.

A test is no part of a script run: a click elsewhere, another page or a closed tab does not end it,
and its result is in the database. Each tab keeps the tests that it has asked for until it has shown
them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import streamlit as st

from papita_core.actors import Actor
from papita_core.errors import PapitaError
from papita_core.vault.service import CredentialInfo
from portal import wiring
from portal.session import tab
from portal.texts import N_, said, t, translated
from portal.words import ago, plain

BADGES = {
    "ok": (N_("Works"), "green", ":material/check:"),
    "rejected": (N_("Rejected"), "red", ":material/block:"),
    "expired": (N_("Expired"), "red", ":material/event_busy:"),
    "blocked": (N_("Blocked by an administrator"), "red", ":material/lock:"),
    "disabled": (N_("Switched off"), "gray", ":material/toggle_off:"),
    "unreadable": (N_("Unreadable"), "red", ":material/broken_image:"),
    "rate_limited": (N_("Rate limited"), "orange", ":material/hourglass_top:"),
    "unreachable": (N_("Unreachable"), "orange", ":material/cloud_off:"),
    "refused": (N_("Address refused"), "orange", ":material/gpp_maybe:"),
    "error": (N_("Test failed"), "orange", ":material/error:"),
    "untested": (N_("Not tested"), "gray", ":material/help:"),
}
SAID = {  # for whoever has not asked in this tab
    "ok": N_("The provider accepts the key."),
    "rejected": N_("The provider rejects the key. Replace it with one that is valid."),
    "rate_limited": N_("The provider asks to wait."),
    "unreachable": N_("The provider does not answer."),
    "refused": N_("The address is not one that may be called from here."),
    "error": N_("The provider could not tell."),
}
TESTING = (N_("Testing …"), "blue", ":material/progress_activity:")
TICK_SECONDS = 0.3

_asking = ThreadPoolExecutor(max_workers=8, thread_name_prefix="key-test")


def show_badge(status: str) -> None:
    """What a test said, or the state that makes a test beside the point."""
    _badge(BADGES.get(status, BADGES["untested"]))


def show_status(info: CredentialInfo) -> None:
    """The badge of a credential: its last test, or that one is going on."""
    if info.id in tab().testing:
        _badge(TESTING)
    else:
        show_badge(info.status)


def show_testing() -> None:
    _badge(TESTING)


def _badge(badge: tuple[str, str, str]) -> None:
    title, color, icon = badge
    st.badge(translated(title), color=color, icon=icon)  # type: ignore[arg-type]


def last_test(info: CredentialInfo) -> str:
    """When the key was tested, and what was said."""
    detail = plain(translated(tab().tests.get(info.id) or SAID.get(info.status, "")))
    if info.checked_at is None:
        return detail
    when = ago(info.checked_at)
    if detail:
        return t("Tested {when}: {detail}", when=when, detail=detail)
    return t("Tested {when}.", when=when)


def start_test(who: Actor, credential_id: str) -> None:
    """Begins a test; a credential that is being tested already is not asked twice."""
    state = tab()
    if credential_id not in state.testing:
        vault = wiring.services().papita.credentials
        state.testing[credential_id] = _asking.submit(vault.test, who, credential_id)


def collect_tests() -> bool:
    """Notes the tests that have ended; True if there was one."""
    state = tab()
    ended = [(name, future) for name, future in state.testing.items() if future.done()]
    for credential_id, future in ended:
        del state.testing[credential_id]
        try:
            state.tests[credential_id] = future.result().detail
        except PapitaError as error:
            state.tests[credential_id] = said(error)
    return bool(ended)


@st.fragment(run_every=TICK_SECONDS)
def follow_tests() -> None:
    """Draws the page again when a test of this tab has ended. No script waits for one: as long as
    a script runs, the browser keeps sending what was typed into a dialog that is gone.
    """
    if collect_tests():
        st.rerun(scope="app")
