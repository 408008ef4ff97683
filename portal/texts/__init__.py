"""What the portal says, in the language of whoever reads it.

The English text stands in the code and is the key of every catalogue: `t("Delete {title}?",
title=…)`. `de.po` and `es.po` beside this file hold the others in gettext's format; a text that a
catalogue lacks is shown in English. Values are put in after the translation, as they are: what
goes into Markdown goes through `portal.words.plain` first. `python -m portal.texts` brings the
catalogues in line with the code; docs/how-to/translate.md tells how to keep them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import Final, Self

import streamlit as st
from babel import Locale, UnknownLocaleError
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from papita_core.errors import InvalidInput, PapitaError, TestFailed, TooManyAttempts

FOLDER: Final = Path(__file__).parent
LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "de": "Deutsch", "es": "Español"}
STILL_THE_OLD_KEY: Final = " The old key is still in force."


def t(text: str, /, **values: object) -> str:
    """The text in the reader's language, with its values."""
    found = _catalogue(language()).gettext(text)
    return found.format(**values) if values else found


def tn(one: str, many: str, count: int, /, **values: object) -> str:
    """The text for that many things; `{count}` in it is the number, grouped as the reader does."""
    found = _catalogue(language()).ngettext(one, many, count)
    return found.format(count=format_decimal(count, locale=locale()), **values)


def N_(text: str, /) -> str:  # noqa: N802 - what every tool of gettext calls it
    """Marks the text of a constant. It is translated where it is drawn, by `translated`."""
    return text


class Later(str):
    """An English sentence that knows how it was made, so that a page can say it in its own."""

    text: str
    values: Mapping[str, object]

    def __new__(cls, text: str, values: Mapping[str, object]) -> Self:
        made = super().__new__(cls, text.format(**values))
        made.text, made.values = text, values
        return made


def later(text: str, /, **values: object) -> str:
    """What is said where nobody reads it yet: in English, until `translated` finds it."""
    return Later(text, values)


def translated(text: str, /) -> str:
    """What is not written where it is drawn: marked by `N_`, said by `later`, or of the cores.

    A sentence of the cores that has values in it is in no catalogue and stays in English.
    """
    if isinstance(text, Later):
        return _catalogue(language()).gettext(text.text).format(**text.values)
    return _catalogue(language()).gettext(text) if text else text


def said(error: Exception) -> str:
    """The sentence of an error, in the reader's language where it is a constant one."""
    if isinstance(error, TooManyAttempts):
        if error.retry_after >= 100:
            return tn(
                "Too many attempts. Try again in {count} minute.",
                "Too many attempts. Try again in {count} minutes.",
                -(-error.retry_after // 60),
            )
        return tn(
            "Too many attempts. Try again in {count} second.",
            "Too many attempts. Try again in {count} seconds.",
            error.retry_after,
        )
    if isinstance(error, TestFailed):
        detail = translated(str(error).removesuffix(STILL_THE_OLD_KEY))
        return detail + " " + t("The old key is still in force.")
    if isinstance(error, InvalidInput) and error.errors:
        sentences = list(error.errors.values())
        if str(error) == " ".join(sentences):
            return " ".join(translated(sentence) for sentence in sentences)
    return translated(error.detail if isinstance(error, PapitaError) else str(error))


def language() -> str:
    """`en`, `de` or `es`: what the reader's browser prefers, English where we do not speak it."""
    return locale().language


def locale() -> Locale:
    """The reader's locale, for dates, numbers and sums of money; American English elsewhere."""
    asked = st.context.locale
    return _locale(asked if isinstance(asked, str) else "")


def load() -> None:
    """Reads the catalogues, which the first page in a language would otherwise wait for."""
    for name in LANGUAGES:
        _catalogue(name)


@cache
def _locale(tag: str) -> Locale:
    try:
        found = Locale.parse(tag, sep="-")
    except (ValueError, UnknownLocaleError):
        return Locale("en", "US")
    return found if found.language in LANGUAGES else Locale("en", "US")


@cache
def _catalogue(name: str) -> NullTranslations:
    place = FOLDER / f"{name}.po"
    if name == "en":
        return NullTranslations()
    with place.open("rb") as source:
        catalogue = read_po(source, locale=name)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return GNUTranslations(compiled)
