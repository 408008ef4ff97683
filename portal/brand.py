"""The mark and the wordmark, in the ink that fits the theme."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from portal.pictures import address
from portal.wiring import ASSETS, MARK


def wordmark() -> Path:
    """The file of the wordmark. Which theme is on is known from a tab's second run for certain."""
    return ASSETS / f"wordmark-{'dark' if st.context.theme.type == 'dark' else 'light'}.svg"


def show_logo() -> None:
    """The wordmark in the sidebar; the mark alone where the sidebar is closed."""
    st.logo(address(wordmark()), size="large", icon_image=address(MARK))


def show_wordmark() -> None:
    """The wordmark as a picture on the page."""
    _picture(wordmark(), "Papita", 140)


def show_mark() -> None:
    """The mark as an ornament."""
    _picture(MARK, "", 64)


def _picture(file: Path, alt: str, width: int) -> None:
    # `st.image` would add a button that shows it on the whole screen.
    st.html(f'<img src="{address(file)}" alt="{alt}" width="{width}">', width=width)
