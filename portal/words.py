"""Small texts that several pages need: times in words, text made safe for Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import streamlit as st

# A colon begins Streamlit's own directives, such as icons; a dollar sign begins maths.
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|~$:&]|^(?=[-+])")
_NUMBER = re.compile(r"^(\d+)(?=[.)])")


def ago(then: datetime, now: datetime | None = None) -> str:
    """`just now`, `5 minutes ago`, `yesterday` … of a time with a zone."""
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for limit, unit, size in (
        (60, "", 1),
        (3600, "minute", 60),
        (86400, "hour", 3600),
        (86400 * 30, "day", 86400),
    ):
        if seconds < limit:
            if not unit:
                return "just now"
            return f"{plural(int(seconds // size), unit)} ago"
    return day(then)


def day(then: datetime) -> str:
    """`on 3 May 2027`."""
    return f"on {then.day} {then:%B %Y}"


def plural(count: int, noun: str) -> str:
    """`1 user`, `2 users`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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
    """What is wrong with the field above."""
    st.markdown(f":red[:material/error: {plain(sentence)}]")


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
    return " on ".join(part for part in (browser, system) if part) or "Unknown device"
