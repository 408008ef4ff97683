"""What somebody reads at the door who has just deleted their account."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from portal.session import remembered


@dataclass(slots=True)
class Farewell:
    sentence: str = ""


def show_farewell() -> None:
    """Once; whatever is done next takes it away."""
    farewell = remembered(Farewell)
    if farewell.sentence:
        st.success(farewell.sentence, icon=":material/check_circle:")
        farewell.sentence = ""
