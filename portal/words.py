"""Small texts that several pages need: times in words, text made safe for Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, tzinfo
from typing import TypeVar
from zoneinfo import ZoneInfo

import streamlit as st
from babel.dates import format_date, format_skeleton
from babel.lists import format_list
from babel.numbers import format_currency, format_decimal

from papita_core.usage.budgets import in_words, usd
from papita_core.users.preferences import zone_of
from portal.session import appearance
from portal.texts import language, locale, t, tn, translated

# A colon begins Streamlit's own directives, such as icons; a dollar sign begins maths.
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|~$:&]|^(?=[-+])")
_NUMBER = re.compile(r"^(\d+)(?=[.)])")

# How soon a field with a button of its own (the eye of a password) tells what is typed. Else it
# tells when the focus leaves it, but not when that goes to this button: whoever goes on by keyboard
# would lose what they typed.
AT_ONCE = "0ms"


def ago(then: datetime, now: datetime | None = None) -> str:
    """`just now`, `5 minutes ago`, `yesterday` … of a time with a zone."""
    seconds = int(((now or datetime.now(UTC)) - then).total_seconds())
    if seconds < 60:
        return t("just now")
    if seconds < 3600:
        return tn("{count} minute ago", "{count} minutes ago", seconds // 60)
    if seconds < 86400:
        return tn("{count} hour ago", "{count} hours ago", seconds // 3600)
    if seconds < 86400 * 30:
        return tn("{count} day ago", "{count} days ago", seconds // 86400)
    return day(then)


def time_zone() -> tzinfo:
    """The zone that the reader chose, else the browser's; UTC where that names none."""
    chosen = zone_of(appearance().zone)
    if chosen is not None:
        return chosen
    name = st.context.timezone
    try:
        return ZoneInfo(name) if isinstance(name, str) and name else UTC
    except (OSError, ValueError):
        return UTC


D = TypeVar("D", bound=date)


def local(then: D) -> D:
    """A moment as the reader's clock has it; a date without a time stays as it is."""
    if isinstance(then, datetime) and then.tzinfo is not None:
        return then.astimezone(time_zone())
    return then


def moment(then: datetime) -> str:
    """`3 May 2027, 14:05`, by the reader's clock."""
    here = local(then)
    return f"{long_date(here)}, {here:%H:%M}"


def day(then: date) -> str:
    """`on 3 May 2027`."""
    return t("on {date}", date=long_date(then))


def long_date(then: date) -> str:
    """`3 May 2027`."""
    then = local(then)
    if language() == "en":
        return f"{then.day} {then:%B %Y}"
    return format_date(then, "long", locale=locale())


def full_date(then: date) -> str:
    """`Monday, 3 May 2027`."""
    if language() == "en":
        return f"{then:%A}, {then.day} {then:%B %Y}"
    return format_date(then, "full", locale=locale())


def day_and_month(then: date) -> str:
    """`3 May`."""
    then = local(then)
    if language() == "en":
        return f"{then.day} {then:%B}"
    return format_skeleton("MMMMd", then, locale=locale())


def date_format() -> str:
    """How the reader types a date, for `st.date_input`."""
    return {"de": "DD.MM.YYYY", "es": "DD/MM/YYYY"}.get(language(), "YYYY/MM/DD")


def number(count: int) -> str:
    """`12,345`, grouped as the reader does."""
    return format_decimal(count, locale=locale())


def money(amount_nano: int) -> str:
    """`$4.13`; less than a cent with as many places as it takes."""
    if language() == "en":
        return in_words(amount_nano)
    return dollars(usd(amount_nano), "#,##0.00####" if 0 < usd(amount_nano) < 0.01 else "#,##0.00")


def dollars(amount: float, pattern: str) -> str:
    """`$1.50`, with as many places as the pattern has."""
    if language() == "en":
        return "$" + format_decimal(amount, format=pattern, locale=locale())
    return format_currency(
        amount, "USD", f"{pattern}\u00a0¤", locale=locale(), currency_digits=False
    )


def any_of(things: Iterable[str]) -> str:
    """`one`, `one or another`."""
    return format_list(list(things), style="or", locale=locale())


def all_of(things: Iterable[str]) -> str:
    """`one`, `one and another`."""
    return format_list(list(things), locale=locale())


def plain(text: str) -> str:
    """The text so that Markdown shows it as it is, on one line."""
    return _NUMBER.sub(r"\1\\", _SPECIAL.sub(r"\\\g<0>", " ".join(text.split())))


def typed(text: str) -> str:
    """What a user typed, as Markdown that keeps its line breaks. Code stays as it is."""
    lines, fence = [], ""
    for line in text.split("\n"):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else mark[1]
            lines.append(line)
        elif fence or not line.strip() or line.startswith(("    ", "\t", "|")):
            lines.append(line)
        else:
            lines.append(line + "  ")
    return "\n".join(lines)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: no data frame, which would load 85 MB of libraries for a list."""
    lines = [_row(heads), "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(_row([plain(cell) for cell in row]) for row in rows)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def show_field_error(sentence: str) -> None:
    """What is wrong with the field above, in the reader's language."""
    st.markdown(f":red[:material/error: {plain(translated(sentence))}]")


def device(user_agent: str) -> str:
    """`Chromium on Linux`, as far as a user agent tells."""
    browser = next(
        (
            name
            for sign, name in (
                ("Edg/", "Edge"),
                ("OPR/", "Opera"),
                ("Firefox/", "Firefox"),
                ("Chrome/", "Chrome"),
                ("Safari/", "Safari"),
            )
            if sign in user_agent
        ),
        "",
    )
    system = next(
        (
            name
            for sign, name in (
                ("Android", "Android"),
                ("iPhone", "iPhone"),
                ("iPad", "iPad"),
                ("Windows", "Windows"),
                ("Mac OS X", "macOS"),
                ("CrOS", "ChromeOS"),
                ("Linux", "Linux"),
            )
            if sign in user_agent
        ),
        "",
    )
    if browser and system:
        return t("{browser} on {system}", browser=browser, system=system)
    return browser or system or t("Unknown device")
