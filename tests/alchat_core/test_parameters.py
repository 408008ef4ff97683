"""Parameters of an answer: checked, remembered, and sent under the names that a provider knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from conftest import ScriptedProvider, Service, follow_to_end, text_of
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, Event, Invalid, UserClient
from alchat_core.providers.parameters import refused, sent_as
from alchat_core.runs.answering import trimmed
from demo.provider.scripts import script_for

ALL: dict[str, Any] = {
    "temperature": 0.5,
    "topP": 1,
    "maxTokens": 7,
    "seed": -3,
    "reasoningEffort": "low",
    "stop": ["END", "###"],
}


def ask_with(user: UserClient, model: str, parameters: dict[str, Any]) -> tuple[str, list[Event]]:
    """The run and its events."""
    sent = user.send(user.create_conversation().id, "hello", model=model, parameters=parameters)
    return sent.run_id, follow_to_end(user, sent.run_id)


def test_all_of_them_reach_the_provider_and_are_remembered(
    user: UserClient, provider: ScriptedProvider
) -> None:
    run_id, events = ask_with(user, "stream-40-1", ALL)
    assert text_of(events) == "".join(script_for("stream-40-1").tokens[:7])
    assert provider.requests()["recent"][-1]["parameters"] == {
        "temperature": 0.5,
        "top_p": 1,
        "max_tokens": 7,
        "seed": -3,
        "reasoning_effort": "low",
        "stop": ["END", "###"],
    }
    assert user.run(run_id).parameters == ALL
    plain_id, _ = ask_with(user, "stream-4-1", {})
    assert provider.requests()["recent"][-1]["parameters"] == {}
    assert user.run(plain_id).parameters is None


def test_retry_and_continue_take_them_too(user: UserClient, provider: ScriptedProvider) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="cut-5", parameters={"seed": 1})
    follow_to_end(user, sent.run_id)
    again = user.go_on(sent.message_id, model="stream-9-1", parameters={"seed": 2})
    follow_to_end(user, again.run_id)
    assert provider.requests()["recent"][-1]["parameters"] == {"seed": 2}
    question = user.messages(conversation.id).items[0]
    third = user.retry(question.id, model="echo", parameters={"seed": 3})
    follow_to_end(user, third.run_id)
    assert provider.requests()["recent"][-1]["parameters"] == {"seed": 3}
    runs = [user.run(one.run_id).parameters for one in (sent, again, third)]
    assert runs == [{"seed": 1}, {"seed": 2}, {"seed": 3}]


def test_they_belong_to_what_an_idempotency_key_stands_for(user: UserClient) -> None:
    conversation = user.create_conversation()
    given = {"model": "echo", "idempotency_key": "p-1"}
    first = user.send(conversation.id, "x", parameters={"seed": 1, "topP": 0.5}, **given)  # type: ignore[arg-type]
    again = user.send(conversation.id, "x", parameters={"topP": 0.5, "seed": 1}, **given)  # type: ignore[arg-type]
    assert again == first
    with pytest.raises(Invalid) as reused:
        user.send(conversation.id, "x", parameters={"seed": 2}, **given)  # type: ignore[arg-type]
    assert reused.value.code == "idempotency-key-reused"
    follow_to_end(user, first.run_id)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("temperature", [-0.1, 2.1, "hot", True, [1]], "a number from 0 to 2"),
        ("topP", [-1, 1.5, "1"], "a number from 0 to 1"),
        ("maxTokens", [0, 1_000_001, 1.5, "9", True], "a whole number from 1 to 1000000"),
        ("seed", [2**53, -(2**53), 0.5], "a whole number from -9007199254740991 to"),
        ("reasoningEffort", ["much", "", 3], "one of none, minimal, low, medium, high and xhigh"),
        (
            "stop",
            [[], ["a"] * 5, [""], ["x" * 201], ["a\x00"], "END", [1]],
            "a list of 1 to 4 texts of 1 to 200 characters",
        ),
    ],
)
def test_what_is_out_of_range_is_refused_with_field_and_range(
    user: UserClient, name: str, values: list[Any], expected: str
) -> None:
    conversation = user.create_conversation()
    for value in values:
        with pytest.raises(Invalid) as wrong:
            user.send(conversation.id, "x", model="echo", parameters={name: value})
        assert wrong.value.code == "invalid-input"
        assert f"parameters.{name}: must be {expected}" in wrong.value.detail, value
    assert user.messages(conversation.id).items == ()


def test_nan_and_unknown_names_are_refused(
    user: UserClient, service: Service, papita: FakePapita, username: str
) -> None:
    conversation = user.create_conversation()
    for parameters in ('{"temperature": NaN}', '{"temperature": Infinity}', '{"warmth": 1}', "[]"):
        answer = requests.post(
            f"{service.url}/api/conversations/{conversation.id}/messages",
            data='{"content": "x", "model": "echo", "parameters": ' + parameters + "}",
            headers={
                "Authorization": f"Bearer {papita.token_for(username)}",
                "Content-Type": "application/json",
            },
            timeout=5,
        )
        assert answer.status_code == 422, parameters
        assert "warmth" not in answer.text


@pytest.mark.parametrize("model", ["o3", "openai/o4-mini", "gpt-5", "gpt-5-mini-2025-08-07"])
def test_a_model_that_always_thinks_takes_no_temperature(user: UserClient, model: str) -> None:
    conversation = user.create_conversation()
    for name, value in (("temperature", 0.1), ("topP", 0.5), ("stop", ["x"])):
        with pytest.raises(Invalid) as refusal:
            user.send(conversation.id, "x", model=model, parameters={name: value})
        assert refusal.value.detail.startswith(f"parameters.{name}: this model does not take it")
    assert user.messages(conversation.id).items == ()


@pytest.mark.parametrize(
    ("model", "name", "takes"),
    [
        ("gpt-5.4-mini", "temperature", True),
        ("gpt-5-chat-latest", "temperature", True),
        ("gpt-4o", "temperature", True),
        ("gpt-4o", "reasoningEffort", False),
        ("gpt-4.1-mini", "reasoningEffort", False),
        ("o3", "reasoningEffort", True),
        ("o3", "seed", True),
        ("olmo-2", "temperature", True),
        ("gpt-oss-120b", "reasoningEffort", True),
        ("claude-sonnet-4-5", "temperature", True),
    ],
)
def test_what_models_are_known_to_refuse(model: str, name: str, takes: bool) -> None:
    assert refused(model, {name: 1}) == (None if takes else name)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("o3-mini", "max_completion_tokens"),
        ("openai/gpt-5.4", "max_completion_tokens"),
        ("gpt-4o", "max_tokens"),
        ("mistral-large", "max_tokens"),
        ("llama3.2", "max_tokens"),
    ],
)
def test_the_name_of_the_limit_goes_by_the_family(model: str, name: str) -> None:
    assert sent_as(model, {"maxTokens": 5}) == {name: 5}


def test_a_provider_that_wants_the_other_name_gets_it(
    user: UserClient, provider: ScriptedProvider
) -> None:
    _, events = ask_with(user, "new-names", {"maxTokens": 3})
    assert events[-1].type == "run.completed"
    assert [event.type for event in events if event.type == "run.retrying"] == []
    assert text_of(events) == "".join(script_for("new-names").tokens[:3])
    assert provider.requests()["recent"][-1]["parameters"] == {"max_completion_tokens": 3}


def test_a_providers_own_refusal_names_the_parameter(user: UserClient) -> None:
    _, events = ask_with(user, "error-bad-request", {"temperature": 0.2})
    assert events[-1].data["code"] == "bad-request"
    assert "the parameter temperature" in events[-1].data["message"]


def test_a_conversation_that_is_too_long_goes_on_without_its_oldest_messages(
    own_service: Callable[..., Service], papita: FakePapita, provider: ScriptedProvider
) -> None:
    service = own_service(ALCHAT_TRIM_CONTEXT="true")
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("long-talk"))
    conversation = user.create_conversation()
    for _ in range(8):
        follow_to_end(user, user.send(conversation.id, "one two three", model="echo").run_id)
    # 16 messages of three words each and the question; 20 words may be sent.
    sent = user.send(conversation.id, "and now this", model="window-20")
    events = follow_to_end(user, sent.run_id)
    assert events[-1].type == "run.completed"
    found = [event.data["messagesLeftOut"] for event in events if event.type == "run.trimmed"]
    assert found == [8, 12]
    assert provider.requests()["recent"][-1]["messages"] == 5
    assert len(user.messages(conversation.id).items) == 18

    events = follow_to_end(user, user.send(conversation.id, "word " * 30, model="window-20").run_id)
    assert events[-1].data["code"] == "context-too-long"
    assert [e.data["messagesLeftOut"] for e in events if e.type == "run.trimmed"][-1] == 18
    client.close()


def test_without_the_setting_it_fails(user: UserClient) -> None:
    _, events = ask_with(user, "window-0", {})
    assert [event.type for event in events] == ["run.started", "run.failed"]
    assert events[-1].data["code"] == "context-too-long"


def said(*roles: str) -> list[dict[str, str]]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[role], "content": f"{n:04}"} for n, role in enumerate(roles)]


@pytest.mark.parametrize(
    ("roles", "keep", "left"),
    [
        ("suauauau", 1, [0, 5, 6, 7]),
        ("uauau", 1, [2, 3, 4]),
        ("uau", 1, [2]),
        ("su", 1, [0, 1]),
        ("u", 1, [0]),
        ("uauauau", 3, [2, 3, 4, 5, 6]),
        ("uau", 3, [0, 1, 2]),
    ],
)
def test_what_is_left_out(roles: str, keep: int, left: list[int]) -> None:
    found = trimmed(said(*roles), keep=keep)
    assert [int(message["content"]) for message in found] == left
