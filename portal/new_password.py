"""A new password, typed twice, with words on how hard it is to guess while it is typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import streamlit as st

from papita_core.users.passwords import MIN_LENGTH, Strength, strength
from portal.texts import N_, t, tn, translated
from portal.words import AT_ONCE, plain, show_field_error

# Under these names, after a prefix, the state of the tab has what is typed.
FIELDS: Final = ("password", "repeat")
# Word and colour of each score.
SCORES: Final = (
    (N_("Very weak"), "red"),
    (N_("Weak"), "red"),
    (N_("Fair"), "orange"),
    (N_("Good"), "green"),
    (N_("Strong"), "green"),
)


def ask_new_password(
    prefix: str, errors: Mapping[str, str], *words: str, instead: bool = False
) -> None:
    """The two fields, under the keys `<prefix>_password` and `<prefix>_repeat`. `words` is what
    strangers know of the user; `errors` may have `password` and `repeat`. `instead`: there is one
    already.
    """
    # No longest length: the fields would count in public how long it is.
    typed = st.text_input(
        t("New password") if instead else t("Password"),
        type="password",
        key=f"{prefix}_password",
        autocomplete="new-password",
        live="250ms",
    )
    # Always one line, so that nothing below it moves under somebody's finger.
    if typed:
        show_strength(typed, *words)
    else:
        wanted = tn("At least {count} character.", "At least {count} characters.", MIN_LENGTH)
        st.markdown(f":gray[:material/info: {wanted}]")
    if "password" in errors:
        show_field_error(errors["password"])
    st.text_input(
        t("New password again") if instead else t("Password again"),
        type="password",
        key=f"{prefix}_repeat",
        autocomplete="new-password",
        on_change="ignore",
        live=AT_ONCE,
    )
    if "repeat" in errors:
        show_field_error(errors["repeat"])


def new_password(prefix: str) -> tuple[str, dict[str, str]]:
    """What was typed, and what is wrong with it as it stands here alone."""
    typed = st.session_state.get(f"{prefix}_password") or ""
    again = st.session_state.get(f"{prefix}_repeat") or ""
    if typed != again:
        return typed, {"repeat": t("The two passwords are not the same.")}
    return typed, {}


def forget_new_password(prefix: str) -> None:
    """Once it is of no more use: nothing of it stays in the state of the tab."""
    for name in FIELDS:
        st.session_state[f"{prefix}_{name}"] = ""


def show_strength(password: str, *words: str) -> None:
    """A bar, a word for it, and what would help; `words` are those that others know of the user."""
    found = strength(password, *words)
    if len(password) < MIN_LENGTH:
        found = Strength(min(found.score, 1), found.advice)
    word, colour = SCORES[found.score]
    bar = "".join("●" if step < found.score else "○" for step in range(4))
    advice = f" {plain(translated(found.advice))}" if found.advice else ""
    st.markdown(f":{colour}[{bar} **{translated(word)}**]{advice}")
