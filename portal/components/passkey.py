"""The button that has the browser ask for a passkey, or make one.

What the browser is asked stays on the server, in the tab that it is for; the answer to it is taken
once. Nothing is asked and nothing is sent unless the button is pressed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import streamlit as st

from papita_core.errors import FactorRefused, PapitaError
from papita_core.users.passkeys import ANSWER_WITHIN, TOO_LATE, Question
from portal import wiring
from portal.components import Component, source
from portal.session import remembered
from portal.texts import said, t

# A person and a key, which is how browsers draw a passkey.
_HTML: Final = """<button type="button"><svg viewBox="0 0 24 24" aria-hidden="true">
<path d="M9.5 3a4 4 0 1 1 0 8 4 4 0 0 1 0-8Zm0 10c1.2 0 2.4.2 3.5.7a5.4 5.4 0 0 0 1.8 4.1V21H2.5
v-2.6C2.5 15.2 6.2 13 9.5 13Z"/>
<path fill-rule="evenodd" d="M18.5 9.5a3.5 3.5 0 0 1 1.5 6.7v.8l1.2 1.2-1.2 1.3 1.2 1.2L19 23
l-1.5-1.5v-5.3a3.5 3.5 0 0 1 1-6.7Zm0 1.8a1.1 1.1 0 1 0 0 2.2 1.1 1.1 0 0 0
 0-2.2Z"/>
</svg><span></span></button>
<p role="alert" hidden></p>
"""
_BUTTON = Component("papita_passkey", source("passkey.js"), html=_HTML, css=source("passkey.css"))


@dataclass(slots=True)
class Asked:
    """The questions that stand on this tab's page, and what became of the last answer, by the name
    of the button.
    """

    questions: dict[str, Question] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def passkey_button(
    name: str,
    label: str,
    *,
    ask: Callable[[], Question],
    on_answer: Callable[[Question, str], object],
    kind: Literal["get", "create"] = "get",
    primary: bool = False,
    choice: str = "",
) -> None:
    """The button, and below it what went wrong. `ask` gives what the browser is asked; `on_answer`
    is called as a callback is, and may raise `PapitaError`. `choice` is the key of a checkbox of
    the page whose state goes along: one in a form is not heard of before the form is sent.
    """
    asked = remembered(Asked)
    question = asked.questions.get(name)
    if question is None or not question.fresh(datetime.now(UTC)):
        try:
            question = asked.questions[name] = ask()
        except PapitaError as error:
            st.error(said(error), icon=":material/error:")
            return
    origin = wiring.services().settings.origin
    _BUTTON(
        key=f"passkey_{name}",
        data={
            "number": question.id,
            "kind": kind,
            "options": question.options,
            "seconds": ANSWER_WITHIN.total_seconds() * 0.4,
            "origin": origin,
            "primary": primary,
            "choice": choice,
            "words": {"label": label, **_words(kind, origin)},
        },
        on_answer_change=lambda: _answered(name, on_answer),
        on_fresh_change=lambda: remembered(Asked).questions.pop(name, None),
    )
    if name in asked.problems:
        st.error(asked.problems[name], icon=":material/error:")


def chosen(name: str) -> bool:
    """Whether the checkbox was ticked when the button called `name` was answered."""
    return _sent(name).get("chosen") is True


def _sent(name: str) -> dict[str, Any]:
    """What the browser has answered, or nothing; it may be anything."""
    sent = getattr(st.session_state.get(f"passkey_{name}"), "answer", None)
    return sent if isinstance(sent, dict) else {}


def forget(name: str) -> None:
    """Forgets what a button of this name has left behind."""
    asked = remembered(Asked)
    asked.questions.pop(name, None)
    asked.problems.pop(name, None)


def _words(kind: str, origin: str) -> Mapping[str, str]:
    return {
        "waiting": t("Follow your browser …"),
        "cancelled": (
            t("No passkey was made. You can try again.")
            if kind == "create"
            else t(
                "No passkey was shown. Try again, or take another way in if this device has none."
            )
        ),
        "timeout": t("This took too long. Press the button again."),
        "known": t("This device has a passkey of yours for Papita already."),
        "unsupported": t("This browser has no passkeys. Take another one, or another way."),
        "elsewhere": t(
            "Passkeys work at {origin} alone: open Papita at this address. (localhost works,"
            " 127.0.0.1 does not.)",
            origin=origin,
        ),
        "failed": t("That did not work. Try again."),
    }


def _answered(name: str, on_answer: Callable[[Question, str], object]) -> None:
    asked = remembered(Asked)
    asked.problems.pop(name, None)
    question = asked.questions.pop(name, None)
    sent = _sent(name)
    text = sent.get("text", "")
    try:
        if question is None or sent.get("number") != question.id or not isinstance(text, str):
            raise FactorRefused(TOO_LATE)
        on_answer(question, text)
    except PapitaError as error:
        # By now somebody else may be signed in here.
        remembered(Asked).problems[name] = said(error)
