"""What a model thinks before it answers: events of its own, kept, and not sent back."""

from __future__ import annotations

import signal
from collections.abc import Callable

import orjson
import pytest
from conftest import ScriptedProvider, Service, ask, follow_to_end, text_of
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, Event, UserClient
from alchat_core.providers.lines import StreamReader
from demo.provider.scripts import script_for

THOUGHTS = "".join(script_for("thinking").thoughts)
TEXT = script_for("thinking").text


def thoughts_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "reasoning.delta")


@pytest.mark.parametrize("model", ["thinking", "thinking-router"])
def test_thoughts_are_events_of_their_own(user: UserClient, model: str) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model=model)
    events = follow_to_end(user, sent.run_id)
    assert thoughts_of(events) == THOUGHTS
    assert text_of(events) == TEXT
    kinds = [event.type for event in events]
    assert kinds.index("text.delta") > max(
        place for place, kind in enumerate(kinds) if kind == "reasoning.delta"
    )
    # Gathered like text: far fewer events than words.
    assert 1 <= kinds.count("reasoning.delta") <= 15
    usage = events[-1].data["usage"]
    assert (usage["reasoningTokens"], usage["cachedTokens"]) == (15, 1)
    answer = user.messages(conversation.id).items[-1]
    assert (answer.content, answer.reasoning) == (TEXT, THOUGHTS)
    # Fifteen words, five milliseconds apart; the answer took longer than that.
    assert answer.reasoning_seconds is not None
    assert 0.05 <= answer.reasoning_seconds < 10
    assert answer.credential_id == user.run(sent.run_id).credential_id is not None
    assert answer.usage is not None
    assert answer.usage["reasoningTokens"] == 15
    assert user.messages(conversation.id).items[0].reasoning is None


def test_thoughts_are_not_sent_back(user: UserClient) -> None:
    conversation = user.create_conversation()
    follow_to_end(user, user.send(conversation.id, "hello", model="thinking").run_id)
    events = follow_to_end(user, user.send(conversation.id, "more", model="stream-3-1").run_id)
    assert events[-1].data["usage"]["promptTokens"] == len(TEXT.split()) + 2
    assert user.messages(conversation.id).items[-1].reasoning is None


def test_thoughts_alone_are_no_kept_text(user: UserClient, provider: ScriptedProvider) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="thinking-cut")
    events = follow_to_end(user, sent.run_id)
    assert [event.type for event in events if event.type != "reasoning.delta"] == [
        "run.started",
        "run.retrying",
        "run.retrying",
        "run.failed",
    ]
    assert events[-1].data["code"] == "provider-cut-off"
    assert thoughts_of(events) == THOUGHTS * 3
    answer = user.messages(conversation.id).items[-1]
    assert (answer.content, answer.reasoning) == ("", THOUGHTS * 3)


def test_thoughts_survive_a_kill_and_a_continuation(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service()
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("thinker"))
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="thinking")
    with user.follow(sent.run_id) as follower:
        events = follower.wait(10)
        while not text_of(events):
            events += follower.wait(10)
    service.stop(signal.SIGKILL)
    service.start()
    answer = user.messages(conversation.id).items[-1]
    assert answer.run is not None
    assert answer.reasoning == THOUGHTS
    if answer.run.state == "interrupted":
        follow_to_end(user, user.go_on(sent.message_id).run_id)
        answer = user.messages(conversation.id).items[-1]
        assert (answer.content, answer.reasoning) == (TEXT, THOUGHTS * 2)
    client.close()


def test_a_model_that_does_not_think_has_no_thoughts(user: UserClient) -> None:
    assert thoughts_of(ask(user, "stream-5-1")) == ""


@pytest.mark.parametrize(
    ("delta", "text", "thought"),
    [
        ({"content": "a"}, "a", ""),
        ({"reasoning": "b"}, "", "b"),
        ({"reasoning_content": "b"}, "", "b"),
        ({"content": None, "reasoning_content": "b"}, "", "b"),
        ({"content": "a", "reasoning": "b"}, "a", "b"),
        ({"content": "", "reasoning": None}, "", ""),
        ({"content": "a", "reasoning": {"text": "b"}}, "a", ""),
        ({"content": "a", "reasoning_content": 7}, "a", ""),
    ],
)
def test_every_spelling_is_read(delta: dict[str, object], text: str, thought: str) -> None:
    reader = StreamReader()
    reader.feed(b"data: " + orjson.dumps({"choices": [{"delta": delta}]}) + b"\n")
    assert (reader.take(), reader.take_thoughts()) == (text, thought)
    assert (reader.take(), reader.take_thoughts()) == ("", "")
