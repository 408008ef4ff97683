"""Makes the browser wear the theme that the user chose, on every page and from every device."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from portal.components import source

_THEME = st.components.v2.component("papita_theme", js=source("theme.js"))


def wear(theme: str, paths: Sequence[str]) -> None:
    """`theme` is system, light or dark. Where the page wears another one it is loaded again, once;
    `paths` are the addresses of all pages.
    """
    _THEME(key="papita_theme", data=[{"theme": theme, "paths": list(paths)}], height=0)
