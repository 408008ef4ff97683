"""Small texts: nothing that a user or a provider wrote becomes markup by accident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from portal.words import ago, device, plain, typed

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@given(st.text(alphabet="ab1. -+*_`#<>[]()|~$:!\\\n&;", max_size=30))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    tokens = MARKDOWN.parse(plain(text))
    shown = "".join(child.content for token in tokens for child in token.children or ())
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"}
    kinds = {child.type for token in tokens for child in token.children or ()}
    assert kinds <= {"text", "text_special"}
    assert shown == " ".join(text.split())


def test_line_breaks_of_a_question_stay_and_code_is_not_touched() -> None:
    text = "one\ntwo\n\n```py\na = 1\nb = 2\n```\nthree"
    assert typed(text) == "one  \ntwo  \n\n```py\na = 1\nb = 2\n```\nthree  "


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5, "just now"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (86400 * 3, "3 days ago"),
        (86400 * 90, "on 3 February 2026"),
    ],
)
def test_times_in_words(seconds: int, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_a_device_in_words() -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0 Safari/537.36"
    assert device(agent) == "Chrome on Linux"
    assert device("") == "Unknown device"
