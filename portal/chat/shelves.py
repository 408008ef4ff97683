"""What a tab knows of the conversations there are: pages of the list, folders, tags, by day."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from babel import Locale
from babel.dates import format_date, format_skeleton

from alchat_core.client import Conversation, Page, Shelf
from portal.session import remembered
from portal.texts import locale, t
from portal.words import time_zone

FOLDERS_SECONDS = 60.0
UNDO_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted last, for as long as that can be taken back."""

    conversation_id: str
    title: str
    until: float
    was_open: bool = True


@dataclass(slots=True)
class Shelves:
    """`first` is the page that the last look brought, `more` the pages that followed it; `watched`
    and `read` are runs: the one that this tab watched last, the one that it has reported as read.

    `archived` and `tag` say which conversations are listed, `turn` how often that was taken off.
    `leave` is set by what concerns more than the sidebar; `dialog` and `jump` name the dialog and
    the message that the next run of the page is to bring onto the screen, `about` the conversation
    of the dialog where that is not the open one.
    """

    first: tuple[Conversation, ...] = ()
    first_cursor: str | None = None
    more: tuple[Conversation, ...] = ()
    more_cursor: str | None = None
    folders: tuple[Shelf, ...] = ()
    tags: tuple[Shelf, ...] = ()
    until: float = 0.0
    opened: dict[str, tuple[Conversation, ...]] = field(default_factory=dict)
    archived: bool = False
    tag: str | None = None
    fresh: bool = False
    leave: bool = False
    watched: str | None = None
    read: str | None = None
    deleted: Deleted | None = None
    dialog: str | None = None
    about: Conversation | None = None
    jump: str | None = None
    turn: int = 0

    @property
    def stale(self) -> bool:
        return time.monotonic() > self.until

    @property
    def filters(self) -> dict[str, Any]:
        """The arguments with which the list is asked for."""
        return {"archived": self.archived, "tag": self.tag}

    @property
    def filtered(self) -> bool:
        return self.archived or self.tag is not None

    def put_first(self, page: Page[Conversation]) -> None:
        self.first, self.first_cursor = page.items, page.next_cursor
        self.fresh = True

    def put_more(self, page: Page[Conversation]) -> None:
        self.more += page.items
        self.more_cursor = page.next_cursor

    def put_folders(self, folders: tuple[Shelf, ...], tags: tuple[Shelf, ...]) -> None:
        self.folders, self.tags = folders, tags
        self.until = time.monotonic() + FOLDERS_SECONDS
        self.opened.clear()

    def forget_lists(self) -> None:
        """After a change: what was asked for earlier is asked for again."""
        self.more, self.more_cursor = (), None
        self.until = 0.0
        self.opened.clear()

    def changed(self, conversation: Conversation) -> None:
        """One conversation is not what it was."""
        self.more = tuple(
            conversation if one.id == conversation.id else one
            for one in self.more
            if one.id != conversation.id or conversation.archived == self.archived
        )
        self.until = 0.0
        self.opened.clear()

    @property
    def cursor(self) -> str | None:
        """Where the next page begins; None after the last."""
        return self.more_cursor if self.more else self.first_cursor

    @property
    def listed(self) -> tuple[Conversation, ...]:
        """All that are known, each once, the newest look first."""
        known = {one.id for one in self.first}
        return self.first + tuple(one for one in self.more if one.id not in known)

    def known(self) -> tuple[Conversation, ...]:
        """Those of the list and of the folders that were opened."""
        return self.listed + tuple(one for within in self.opened.values() for one in within)


def shelves() -> Shelves:
    return remembered(Shelves)


@dataclass(frozen=True, slots=True)
class Group:
    heading: str
    conversations: tuple[Conversation, ...]


def by_day(
    conversations: Iterable[Conversation], now: datetime, zone: tzinfo, language: Locale
) -> list[Group]:
    """Pinned ones, then by the day of the last message in that zone; empty groups are left out."""
    today = now.astimezone(zone).date()
    groups: dict[str, list[Conversation]] = {}
    for one in conversations:
        heading = (
            t("Pinned")
            if one.pinned
            else _heading(one.last_message_at.astimezone(zone).date(), today, language)
        )
        groups.setdefault(heading, []).append(one)
    return [Group(heading, tuple(items)) for heading, items in groups.items()]


def _heading(day: date, today: date, language: Locale) -> str:
    if day >= today:
        return t("Today")
    if day == today - timedelta(days=1):
        return t("Yesterday")
    if day >= today - timedelta(days=7):
        return t("Previous 7 days")
    if day >= today - timedelta(days=30):
        return t("Previous 30 days")
    if day.year == today.year:
        return format_date(day, "LLLL", locale=language)
    return format_skeleton("yMMMM", day, locale=language)


def groups(conversations: Sequence[Conversation]) -> list[Group]:
    """The same for whoever reads this page, now."""
    return by_day(conversations, datetime.now(UTC), time_zone(), locale())
