"""The identity providers at the door: a button for each, and what went wrong on the way back."""

from __future__ import annotations

import streamlit as st

from portal import identity_providers
from portal.texts import t
from portal.words import plain


def show_problem() -> None:
    """Why somebody who was sent to a provider is here again."""
    sentence = identity_providers.arrived()
    if sentence:
        st.error(sentence, icon=":material/error:")


def show_providers(remember: bool) -> None:
    """The buttons, below the password's in the same form, so that its choice to be remembered is
    theirs as well.
    """
    for provider in identity_providers.providers():
        if st.form_submit_button(
            t("Continue with {title}", title=plain(provider.title)),
            key=f"door_provider_{provider.name}",
            icon=":material/login:",
            width="stretch",
        ):
            identity_providers.go_to_sign_in(provider.name, remember=remember)
