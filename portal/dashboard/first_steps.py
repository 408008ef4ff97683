"""What a newcomer does first. Each step is ticked once done; after the last all of it is gone."""

from __future__ import annotations

import streamlit as st

from portal import navigation, wiring
from portal.session import SignedIn
from portal.texts import t


def show_first_steps(user: SignedIn) -> bool:
    """Store a key, allow AL-Chat to use it, ask something. False once all of it is done."""
    papita = wiring.services().papita
    has_key = bool(
        papita.credentials.list(user.actor, limit=1).items
        or papita.credentials.shared_with_me(user.actor)
    )
    allowed = has_key and papita.grants.allowed(user.actor, wiring.AL_CHAT)
    asked = allowed and bool(papita.usage.of(user.actor, "project"))
    if asked:
        return False
    with st.container(border=True, key="first_steps", gap="xsmall"):
        st.markdown(t("**First steps**"))
        with st.container(
            horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
        ):
            _step(has_key, t("Store your OpenAI key, so that AL-Chat can answer."))
            if not has_key:
                st.page_link(
                    navigation.page("credentials"), label=t("Add a key"), icon=":material/key:"
                )
        _step(allowed, t("Open AL-Chat below, and allow it to use your key while it answers."))
        _step(asked, t("Ask it something."))
    return True


def _step(done: bool, text: str) -> None:
    icon = ":green[:material/check_circle:]" if done else ":material/radio_button_unchecked:"
    st.markdown(f"{icon} {text}", width="content")
