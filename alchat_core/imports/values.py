"""What a file of conversations comes to, whoever wrote it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any

_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
DAY_MS = 24 * 3600 * 1000


class NotTaken(Exception):
    """A conversation or a file that cannot be imported; `str()` is the reason in words."""


@dataclass(slots=True)
class Planned:
    """A message to be written. `parent` is its place in the list, None for a first one."""

    parent: int | None
    role: str
    content: str
    reasoning: str | None
    model: str | None
    created_at: int
    rating: str | None = None
    comment: str | None = None
    sources: list[dict[str, Any]] | None = None


@dataclass(slots=True)
class Found:
    """A conversation of a file; parents stand before their children. Moments are milliseconds."""

    source: str
    external_id: str
    title: str | None
    messages: list[Planned]
    active: int | None
    created_at: int
    last_message_at: int
    model: str | None = None
    system_prompt: str | None = None
    parameters: dict[str, Any] | None = None
    folder: str | None = None
    tags: list[str] = field(default_factory=list)
    pinned: bool = False
    archived: bool = False


def text_of(value: object, longest: int | None = None) -> str | None:
    """A text that every database takes, None for what is no text or empty."""
    if not isinstance(value, str):
        return None
    clean = _LONE_SURROGATES.sub("\ufffd", value).replace("\x00", "")
    return clean[:longest] or None


def line_of(value: object, longest: int) -> str | None:
    """A text in one line: a title, a name."""
    found = text_of(value)
    return " ".join(found.split())[:longest].strip() or None if found else None


def moment_of(milliseconds: float) -> int | None:
    """None where it cannot be one: before 1970, or later than tomorrow."""
    if 0 < milliseconds < time.time() * 1000 + DAY_MS:
        return round(milliseconds)
    return None
