"""Small parts of an answer: where its calls stand, and what its receipt says."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from alchat_core.client import Conversation, Event, Message, ToolCall
from papita_core.usage.budgets import NANO, Budget, Spending
from portal.chat.answer import parts
from portal.chat.follow import moved_on, notice_of
from portal.chat.reasoning import in_seconds, thought_label
from portal.chat.receipts import Key, budget_share, dollars, key_in_words
from portal.chat.view import View
from portal.chat.writing import begun

NOW = datetime(2027, 5, 3, tzinfo=UTC)


def call(name: str, at: int) -> ToolCall:
    return ToolCall(name, at, None, None, "say", {}, None, False, False, None)


def message(message_id: str, content: str, *calls: ToolCall) -> Message:
    return Message(
        message_id,
        "conv_1",
        None,
        "assistant",
        content,
        "m",
        NOW,
        None,
        None,
        None,
        tool_calls=calls,
    )


def test_calls_stand_where_they_were_made() -> None:
    one, two, three = call("a", 3), call("b", 3), call("c", 6)
    assert list(parts("abcdefgh", [one, two, three])) == ["abc", (one, two), "def", (three,), "gh"]
    assert list(parts("", [call("a", 0)])) == [(call("a", 0),)]
    assert list(parts("abc", [])) == ["abc"]


def test_what_a_run_begins_with_leaves_out_what_its_events_will_say() -> None:
    kept = begun(message("m", "abc", call("a", 3), call("b", 9)), "run_1")
    assert (kept.text, [one.id for one in kept.calls], kept.saw_all) == ("abc", ["a"], False)


@pytest.mark.parametrize(
    ("amount", "said"),
    [(0.0, "$0.00"), (0.0000123, "$0.00001"), (0.0123, "$0.012"), (1234.5, "$1,234.50")],
)
def test_dollars(amount: float, said: str) -> None:
    assert dollars(amount) == said


def test_times() -> None:
    assert [in_seconds(one) for one in (0.01, 0.44, 12.4, 125)] == [
        "0.1 s",
        "0.4 s",
        "12 s",
        "2 min 5 s",
    ]
    assert (thought_label(12.0), thought_label(None)) == ("Thought for 12 s", "Thoughts")


def test_whose_key_it_was() -> None:
    assert key_in_words(None) == "a key that is deleted"
    assert key_in_words(Key("Mine", "••••4f2a")) == "your key ••4f2a"
    assert key_in_words(Key("Team", "", "bruno")) == "shared by bruno"
    month = Spending(Budget(10 * NANO, "month"), 6 * NANO + NANO // 3, 0, date(2027, 5, 1))
    assert budget_share(month) == "63% of this month's budget"
    day = Spending(Budget(10 * NANO, "day"), NANO, 0, date(2027, 5, 1))
    assert budget_share(day) == "10% of today's budget"


def test_a_conversation_that_went_on_elsewhere_is_noticed() -> None:
    view = View("conv_1", messages=[message("m2", "hi")])

    def listed(last: str | None, run: str | None = None) -> Conversation:
        return Conversation("conv_1", "t", None, False, False, NOW, NOW, NOW, run, last)

    assert not moved_on(view, [listed("m2")])
    assert moved_on(view, [listed("m4")])
    assert moved_on(view, [listed("m2", "run_9")])
    assert not moved_on(view, [])


def test_what_is_said_in_passing() -> None:
    seam = notice_of(Event(1, "run.seam", {"keptCharacters": 3, "code": "provider-cut-off"}))
    assert seam is not None
    trimmed = notice_of(Event(2, "run.trimmed", {"messagesLeftOut": 3}))
    assert trimmed is not None
    assert "3 oldest messages" in trimmed[0]
    lost = notice_of(
        Event(3, "tool.unavailable", {"serverId": "s", "server": "Time", "message": "It is away."})
    )
    assert lost is not None
    assert "Time" in lost[0]
    assert notice_of(Event(4, "text.delta", {"text": "x"})) is None
