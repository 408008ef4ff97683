"""Names of files that every system takes, made from titles that may hold anything."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from urllib.parse import quote

MAX_STEM_BYTES = 80


def stem(title: str | None) -> str:
    """Letters, digits, `-` and `_` of a title; empty where it has none of them."""
    words = "".join(
        char if char.isalnum() or char in "-_" else " "
        for char in unicodedata.normalize("NFC", title or "")
    )
    name = "-".join(words.split()).strip("-_")
    return name.encode()[:MAX_STEM_BYTES].decode(errors="ignore").strip("-_")


def file_name(title: str | None, created_at: int, ending: str, apart: str = "") -> str:
    """`2026-01-31-what-it-is-about.md`; `apart` tells files of the same name from each other.

    It begins with a digit, so no name that Windows keeps for itself can come out.
    """
    day = datetime.fromtimestamp(created_at / 1000, UTC).strftime("%Y-%m-%d")
    return "-".join(part for part in (day, stem(title), apart) if part) + f".{ending}"


def attachment(name: str) -> str:
    """A Content-Disposition (RFC 6266) that has the browser save the answer under this name."""
    plain = "".join(char if char.isascii() else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
