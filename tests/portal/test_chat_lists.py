"""How lists of conversations, snippets and reports are put into words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from babel import Locale

from alchat_core.client import Conversation, ImportReport, LeftOut, SnippetPart
from portal.chat.finding import marked
from portal.chat.shelves import by_day
from portal.chat.transfers import file_name, in_words

ENGLISH = Locale("en", "US")


def conversation(name: str, moment: datetime, *, pinned: bool = False) -> Conversation:
    return Conversation(
        id=name,
        title=name,
        model=None,
        pinned=pinned,
        archived=False,
        created_at=moment,
        updated_at=moment,
        last_message_at=moment,
        active_run_id=None,
    )


def test_days_are_those_of_the_reader() -> None:
    # Ten past midnight in Berlin, still the day before in UTC.
    now = datetime(2027, 3, 9, 23, 10, tzinfo=UTC)
    berlin = ZoneInfo("Europe/Berlin")
    ago = [0, 1, 24, 48, 24 * 7, 24 * 8, 24 * 31, 24 * 90]
    found = [
        conversation(str(hours), now - timedelta(hours=hours), pinned=hours == 48) for hours in ago
    ]

    def named(zone: ZoneInfo) -> dict[str, list[str]]:
        return {
            group.heading: [one.id for one in group.conversations]
            for group in by_day(found, now, zone, ENGLISH)
        }

    assert named(berlin) == {
        "Today": ["0"],
        "Yesterday": ["1", "24"],
        "Pinned": ["48"],
        "Previous 7 days": [str(24 * 7)],
        "Previous 30 days": [str(24 * 8)],
        "February": [str(24 * 31)],
        "December 2026": [str(24 * 90)],
    }
    assert named(ZoneInfo("UTC"))["Today"] == ["0", "1"]


def test_hits_are_marked_and_nothing_else_is_markup() -> None:
    snippet = [
        SnippetPart("## a [link](x) to ", False),
        SnippetPart("wombats", True),
        SnippetPart(" here", False),
    ]
    assert marked(snippet) == r"a \[link\](x) to :orange-background[wombats] here"
    assert marked([SnippetPart("x" * 300, False)]) == "x" * 110 + "…"


def test_names_of_files_are_those_of_every_system() -> None:
    assert file_name('What is "a/b"?') == "What is a b"
    assert file_name("...") == "chat"


def test_a_report_says_what_was_taken_and_what_was_not() -> None:
    report = ImportReport(2, 1, 1, 0, (), (LeftOut("pictures", 3),), ("conv_1",), None)
    assert in_words(report) == [
        "2 chats imported, with one message.",
        "One was here already.",
        "Left out: pictures (3)",
    ]
    nothing = ImportReport(0, 0, 0, 0, (), (), (), "The file ended early.")
    assert in_words(nothing) == ["Nothing was imported.", "The file ended early."]
