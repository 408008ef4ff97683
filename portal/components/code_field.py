"""A field for a code of six digits: filled in by password managers, with a keyboard of numbers."""

from __future__ import annotations

import streamlit as st

from portal.components import Component, source

_NUMBERS = Component("papita_code_field", source("code_field.js"), isolate_styles=False)


def code_field(label: str, *, key: str) -> str:
    """What was typed. Once on a page."""
    with st.container(gap=None):
        typed = st.text_input(label, key=key, autocomplete="one-time-code", max_chars=12)
        _NUMBERS(key=f"{key}_numbers", data={}, height=0)
    return typed or ""
