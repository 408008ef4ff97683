"""Loads at start what the first page would otherwise load while somebody waits."""

from __future__ import annotations

import importlib
import logging

from portal import texts

MODULES = (
    "streamlit.elements.markdown",
    "streamlit.elements.widgets.chat",
    "streamlit.elements.image",
    "streamlit_authenticator",
    "portal.sign_in",
    "portal.navigation",
    "portal.frame",
    "portal.brand",
    "portal.chat.composer",
    "portal.chat.follow",
    "portal.chat.header",
    "portal.chat.history",
    "portal.chat.messages",
    "portal.credential_form",
    "portal.credential_cards",
    "portal.env_import",
)


def warm_up() -> None:
    """Imports the modules of the pages, what Streamlit loads lazily by name; reads the texts."""
    # It warns of every fragment and dialog that is declared outside of a page.
    logger = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    level = logger.level
    logger.setLevel(logging.ERROR)
    for name in MODULES:
        importlib.import_module(name)
    texts.load()
    logger.setLevel(level)
