"""Loads at start what the first page would otherwise load while somebody waits."""

from __future__ import annotations

import importlib
import logging

MODULES = (
    "streamlit.elements.markdown",
    "streamlit.elements.widgets.chat",
    "streamlit.elements.image",
    "streamlit_authenticator",
    "portal.sign_in",
    "portal.navigation",
    "portal.frame",
    "portal.brand",
    "portal.chat_view",
    "portal.credential_form",
    "portal.credential_cards",
    "portal.env_import",
)


def warm_up() -> None:
    """Imports the modules of the pages. What Streamlit loads lazily is named one by one."""
    # It warns of every fragment and dialog that is declared outside of a page.
    logger = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    level = logger.level
    logger.setLevel(logging.ERROR)
    for name in MODULES:
        importlib.import_module(name)
    logger.setLevel(level)
