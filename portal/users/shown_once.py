"""A link that is shown once. It goes straight from the service to the screen: nothing of it is in
the state of the tab, so that nothing is left on the server when the box is closed.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from papita_core.users.links import NewLink
from portal.session import tab
from portal.texts import t
from portal.words import day


def show_link_once(made: NewLink, text: str) -> None:
    st.markdown(text)
    st.code(made.url, language=None, wrap_lines=True)
    st.caption(t("It serves once and ends {when}.", when=day(made.expires_at)))
    st.warning(
        t("It is not shown again: Papita keeps only a fingerprint of it."),
        icon=":material/visibility_off:",
    )
    st.button(t("Done"), type="primary", width="stretch", key="users_link_done", on_click=_done)


def begin(show: Callable[[], object]) -> None:
    """Opens a dialog that ends with such a link."""
    tab().dialog_done = False
    show()


def _done() -> None:
    tab().dialog_done = True
