"""People as the portal shows them: initials on a colour that is theirs, beside the name."""

from __future__ import annotations

import hashlib
from html import escape
from typing import Final

import streamlit as st

from papita_core.users.preferences import COLOURS

# Each has white letters that can be read on it, and can be told from the ground of both themes.
SHADES: Final = {
    "amber": "#97530f",
    "olive": "#6b6410",
    "green": "#2c7040",
    "teal": "#0f7072",
    "blue": "#2c62a8",
    "violet": "#7148a3",
    "rose": "#a83a5c",
    "grey": "#655d54",
}


def picture(name: str, colour: str = "", *, size: float = 2.25) -> str:
    """HTML of a round picture, `size` in rem, for `st.html`: the name itself stands beside it.

    `colour` is the one its user chose; without, the name decides.
    """
    return (
        f'<span aria-hidden="true" style="display:inline-flex;flex:none;align-items:center;'
        f"justify-content:center;width:{size}rem;height:{size}rem;border-radius:50%;"
        f"background:{SHADES[colour or colour_of(name)]};color:#fff;font-weight:600;"
        f'font-size:{size * 0.4:.2f}rem;line-height:1;user-select:none">{escape(initials(name))}'
        "</span>"
    )


def person(name: str, colour: str = "", below: str = "", *, size: float = 2.25) -> str:
    """HTML of the picture, the name beside it and, smaller, what stands below the name."""
    second = (
        '<span style="display:block;font-size:.875rem;opacity:.8;overflow-wrap:anywhere;'
        f'white-space:pre-line">'
        f"{escape(below)}</span>"
        if below
        else ""
    )
    return (
        '<div style="display:flex;align-items:center;gap:.65rem;min-width:0">'
        f"{picture(name, colour, size=size)}"
        '<span style="min-width:0;line-height:1.35">'
        f'<span style="display:block;font-weight:600;overflow-wrap:anywhere;'
        f'font-size:{max(1.0, size * 0.38):.2f}rem">{escape(name)}</span>'
        f"{second}</span></div>"
    )


def show_person(name: str, colour: str = "", below: str = "", *, size: float = 2.25) -> None:
    """Draws `person`."""
    st.html(person(name, colour, below, size=size))


def initials(name: str) -> str:
    """One or two capitals: of the first and the last word of a name."""
    words = [word for word in name.replace(".", " ").replace("_", " ").split() if word[0].isalnum()]
    picked = words[:1] + words[1:][-1:]
    return "".join(word[0] for word in picked).upper() or "?"


def colour_of(name: str) -> str:
    """The colour of whoever chose none: always the same for the same name."""
    return COLOURS[hashlib.sha256(name.encode()).digest()[0] % len(COLOURS)]
