"""Asks the provider whether a key works, and shows what it said last."""

from __future__ import annotations

import streamlit as st

from papita_core.errors import PapitaError
from papita_core.vault.service import CredentialInfo
from portal import wiring
from portal.session import SignedIn, tab
from portal.words import ago, plain

BADGES = {
    "ok": ("Works", "green", ":material/check:"),
    "rejected": ("Rejected", "red", ":material/block:"),
    "expired": ("Expired", "red", ":material/event_busy:"),
    "rate_limited": ("Rate limited", "orange", ":material/hourglass_top:"),
    "unreachable": ("Unreachable", "orange", ":material/cloud_off:"),
    "refused": ("Address refused", "orange", ":material/gpp_maybe:"),
    "error": ("Test failed", "orange", ":material/error:"),
    "untested": ("Not tested", "gray", ":material/help:"),
}


def show_status(info: CredentialInfo) -> None:
    """The badge of the last test."""
    title, color, icon = BADGES.get(info.status, BADGES["untested"])
    st.badge(title, color=color, icon=icon)  # type: ignore[arg-type]


def last_test(info: CredentialInfo) -> str:
    """When the key was tested, and what was said if this tab has asked itself."""
    if info.checked_at is None:
        return ""
    detail = plain(tab().tests.get(info.id, ""))
    return f"Tested {ago(info.checked_at)}" + (f": {detail}" if detail else ".")


def test_credential(user: SignedIn, info: CredentialInfo) -> None:
    """Tests and draws the page again; the badge and a message tell the result."""
    with st.spinner("Asking the provider …", width="content"):
        try:
            result = wiring.services().papita.credentials.test(user.actor, info.id)
        except PapitaError as error:
            tab().notice = str(error)
        else:
            tab().tests[info.id] = result.detail
    st.rerun()
