"""What the dashboard reminds of: the first key, and keys that run out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from papita_core.vault.service import CredentialInfo
from portal import navigation, wiring
from portal.credential_form import expiry_words
from portal.session import SignedIn
from portal.words import plain

REPLACE = "replace"  # the credentials page opens the form for the id behind this query parameter
SOON = timedelta(days=14)


def show_first_step(user: SignedIn) -> None:
    """Shown to whoever has no key, neither an own one nor a shared one."""
    vault = wiring.services().papita.credentials
    if vault.list(user.actor, limit=1).items or vault.shared_with_me(user.actor):
        return
    with st.container(
        border=True,
        horizontal=True,
        vertical_alignment="center",
        horizontal_alignment="distribute",
    ):
        st.markdown(
            "**First step:** store your OpenAI key, so that AL-Chat can answer.", width="content"
        )
        st.page_link(navigation.page("credentials"), label="Add a key", icon=":material/key:")


def show_expiring(user: SignedIn) -> None:
    """One box for each own credential that runs out within two weeks, or has."""
    now = datetime.now(UTC)
    for info in wiring.services().papita.credentials.expiring(user.actor, SOON):
        if not info.disabled and not info.blocked:
            _remind(info, now)


def _remind(info: CredentialInfo, now: datetime) -> None:
    expires_at = info.expires_at or now
    gone = expires_at <= now
    color, icon = ("red", "event_busy") if gone else ("orange", "event_upcoming")
    with st.container(
        border=True,
        horizontal=True,
        vertical_alignment="center",
        horizontal_alignment="distribute",
        key=f"expiring_{info.id}",
    ):
        st.markdown(
            f":{color}[:material/{icon}:] **{plain(info.label)}** {expiry_words(expires_at, now)}."
            + (" Projects cannot use it any more." if gone else ""),
            width="content",
        )
        st.page_link(
            navigation.page("credentials"),
            label="Replace it",
            icon=":material/edit:",
            query_params={REPLACE: info.id},
        )
