"""The model of the next message: a list that finds as one types, favourites first."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st
from babel.numbers import format_compact_decimal

from alchat_core.client import Model
from papita_core.errors import PapitaError
from portal import wiring
from portal.chat.choices import Prices
from portal.chat.view import View
from portal.components import source
from portal.session import actor, remembered, tab
from portal.texts import locale, said, t
from portal.words import dollars

KEY = "al_chat_model"
FAVOURITES = "al-chat.favourite-models"
MOST_FAVOURITES = 50

# Not seen before the script has given everything its name.
_MODELS = st.components.v2.component(
    "al_chat_models",
    html="""<div class="models" style="visibility: hidden">
<input role="combobox" aria-autocomplete="list" aria-expanded="false" aria-controls="models"
 autocomplete="off" autocapitalize="off" spellcheck="false">
<button type="button" aria-pressed="false"></button>
<div id="models" role="listbox" hidden></div>
</div>
""",
    css=source("models.css"),
    js=source("models.js"),
)


@dataclass(slots=True)
class Picker:
    """`number` counts what this tab has begun anew: a choice before that counts no longer."""

    number: int = 0
    favourites: tuple[str, ...] | None = None
    shown: tuple[str, ...] = ()


def picked() -> str | None:
    """What was chosen in the list since the conversation was opened, if anything was."""
    value = st.session_state.get(KEY)
    found = value.get("choice") if value is not None else None
    if not isinstance(found, dict) or found.get("number") != remembered(Picker).number:
        return None
    model = found.get("model")
    return model.strip()[:200] or None if isinstance(model, str) else None


def choose_model(view: View) -> None:
    """Draws the list and keeps what was chosen."""
    state, picker = tab(), remembered(Picker)
    state.model = picked() or state.model
    if view.conversation is not None and state.model_of != view.conversation.id:
        # A conversation goes on with its own model; a choice that was made holds until then.
        state.model_of = view.conversation.id
        state.model = view.conversation.model or state.model
        picker.number += 1
    known = list(view.models)
    if state.model is None and known:
        state.model = known[0]
    if state.model and state.model not in known:
        known.insert(0, state.model)
    if picker.favourites is None:
        picker.favourites = _kept()
    picker.shown = tuple(known)
    favourites = [name for name in picker.favourites if name in known]
    prices = remembered(Prices).models
    ordered = favourites + [name for name in known if name not in favourites]
    data = {
        "value": state.model or "",
        "number": picker.number,
        "models": [{"id": name, "about": about(prices.get(name))} for name in ordered],
        "favourites": favourites,
        "words": {
            "label": t("Model"),
            "favourite": t("Favourite"),
            "other": t("Another name"),
            "foot": t("US dollars per million tokens, in and out")
            if any(model.input_usd is not None for model in prices.values())
            else "",
        },
    }
    _MODELS(
        key=KEY,
        data=[data],
        width="stretch",
        height="content",
        on_choice_change=lambda: None,
        on_favourites_change=_star,
    )


def about(model: Model | None) -> str:
    """`$0.15 / $0.60 · 128K`: what is known of it."""
    if model is None:
        return ""
    known = []
    if model.input_usd is not None and model.output_usd is not None:
        known.append(f"{_dollars(model.input_usd)} / {_dollars(model.output_usd)}")
    if model.context_window:
        known.append(format_compact_decimal(model.context_window, locale=locale()))
    return " · ".join(known)


def _dollars(amount: float) -> str:
    return dollars(amount, "#,##0.00##")


def _kept() -> tuple[str, ...]:
    found = wiring.services().papita.preferences.get(actor(), FAVOURITES)
    return tuple(name for name in found if isinstance(name, str)) if found else ()


def _star() -> None:
    """Keeps the favourites as the list has them now."""
    value = st.session_state.get(KEY)
    found = value.get("favourites") if value is not None else None
    if not isinstance(found, list):
        return
    names = tuple(name[:200] for name in found[:MOST_FAVOURITES] if isinstance(name, str))
    picker = remembered(Picker)
    # Those that this key does not reach were not shown, and stay.
    others = tuple(name for name in picker.favourites or () if name not in picker.shown)
    try:
        wiring.services().papita.preferences.put(actor(), FAVOURITES, [*names, *others])
        picker.favourites = names + others
    except PapitaError as error:
        tab().notice = said(error)
