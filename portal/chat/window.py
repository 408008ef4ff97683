"""Which part of a conversation one tab shows: its end, and the pages that were loaded before it.

The first message of the end stays the same while the conversation grows, so that what is on the
screen stays where it is; when the end has grown long, it is cut to its usual length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from alchat_core.client import Feedback, Message, UserClient
from portal.session import remembered

# What a page opens with, and how far that grows: each run of the page draws all of it anew.
END: Final = 10
LONGEST_END: Final = 20
# The length of the first page, and the most messages that are asked for at once.
PAGE: Final = 30
ASKED: Final = 480
# A question and its answer, and some that came from another tab.
GROWTH: Final = 4
# Each page has a place of its own before it is there, so that what stands below it does not move;
# with pages that double in length now and then these are enough for 7,600 messages.
PLACES: Final = 14


@dataclass(slots=True)
class Window:
    """`first_id` is the first message of the end; `pages` come before it, the newest page first.

    `turn` counts how often pages were forgotten, since the next ones are drawn at another place.
    """

    conversation_id: str = ""
    first_id: str = ""
    shown: int = 0
    pages: list[tuple[Message, ...]] = field(default_factory=list)
    turn: int = 0

    def to_the_end(self) -> None:
        """Whoever sends a message looks at its answer, not at earlier messages."""
        if self.pages:
            self.pages.clear()
            self.turn += 1

    def fit(self, conversation_id: str, newest: Sequence[Message]) -> Sequence[Message]:
        """The end as it is shown, out of the newest messages; forgets pages that do not fit it."""
        ids = [message.id for message in newest]
        known = self.conversation_id == conversation_id and self.first_id in ids
        begin = ids.index(self.first_id) if known else 0
        end = newest[begin:]
        if not known or len(end) > LONGEST_END:
            end = newest[-END:]
        first = end[0].id if end else ""
        if self.conversation_id != conversation_id or self.first_id != first:
            self.to_the_end()
        self.conversation_id, self.first_id, self.shown = conversation_id, first, len(end)
        return end

    def earlier(self) -> Iterator[Message]:
        """The messages of the pages, the oldest first."""
        for page in reversed(self.pages):
            yield from page

    def rated(self, message_id: str, feedback: Feedback | None) -> None:
        """Remembers a rating of a message in one of the pages: they are not asked for again."""
        for number, page in enumerate(self.pages):
            if any(message.id == message_id for message in page):
                self.pages[number] = tuple(
                    replace(message, feedback=feedback) if message.id == message_id else message
                    for message in page
                )


def page_size(number: int) -> int:
    """How many messages the page of that number has: who goes on going up gets longer ones."""
    return PAGE << number // 2


def newest(user: UserClient, conversation_id: str) -> Sequence[Message]:
    """The end of the conversation, in one request."""
    window = remembered(Window)
    same = window.conversation_id == conversation_id
    limit = max(window.shown + GROWTH, END) if same else END
    return window.fit(conversation_id, user.messages(conversation_id, limit=limit).items)


def load_page(user: UserClient, conversation_id: str) -> bool:
    """Loads the page before those that are there; False if there is none, or no place for it."""
    window = remembered(Window)
    if window.conversation_id != conversation_id or not has_page(window):
        return False
    oldest = window.pages[-1][0].id if window.pages else window.first_id
    page: list[Message] = []
    wanted = page_size(len(window.pages))
    while len(page) < wanted and not (page and page[0].parent_id is None):
        some = user.messages(conversation_id, before=oldest, limit=min(wanted - len(page), ASKED))
        if not some.items:
            break
        page[:0] = some.items
        oldest = page[0].id
    if page:
        window.pages.append(tuple(page))
    return bool(page)


def has_page(window: Window) -> bool:
    """Whether another page may be loaded, as far as this tab knows."""
    if not window.first_id or len(window.pages) >= PLACES:
        return False
    return not window.pages or window.pages[-1][0].parent_id is not None
