"""The Responses API: the same answers, faults and limits as with chat completions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from conftest import ScriptedProvider, ask, follow_to_end, text_of, wait_until
from documents import image
from fake_papita import FakePapita

from alchat_core.client import Event, UserClient
from alchat_core.credential_manager import Loan
from alchat_core.errors import RunError
from alchat_core.providers.forms import Forms, Refusal
from alchat_core.providers.lines import MalformedStreamError, ProviderReportedError
from alchat_core.providers.responses import ResponseReader, body_of
from demo.provider.scripts import script_for

Body = dict[str, Any]


@pytest.fixture
def by_name(papita: FakePapita, provider: ScriptedProvider) -> None:
    """Keys lead to the provider under the name at which it is asked by the Responses API."""
    papita.base_url = provider.by_name + "/v1"


def latest(provider: ScriptedProvider, count: int = 1) -> list[tuple[str, str]]:
    """How the latest requests were made, and how they ended."""
    return [(one["api"], one["state"]) for one in provider.requests()["recent"][-count:]]


def ask_with(user: UserClient, model: str, parameters: dict[str, Any]) -> list[Event]:
    sent = user.send(user.create_conversation().id, "hello", model=model, parameters=parameters)
    return follow_to_end(user, sent.run_id)


def thoughts_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "reasoning.delta")


@pytest.mark.usefixtures("by_name")
def test_an_answer_and_what_it_used(user: UserClient, provider: ScriptedProvider) -> None:
    events = ask(user, "stream-30-1", "one two three")
    assert (text_of(events), events[-1].type) == (script_for("stream-30-1").text, "run.completed")
    usage = events[-1].data["usage"]
    assert (usage["promptTokens"], usage["completionTokens"], usage["totalTokens"]) == (3, 30, 33)
    assert latest(provider) == [("responses", "completed")]
    assert provider.requests()["recent"][-1]["parameters"] == {"store": False}
    assert ask(user, "no-usage")[-1].data["usage"] is None


@pytest.mark.usefixtures("by_name")
@pytest.mark.parametrize("model", ["crlf", "comments", "split", "dribble", "lump-300", "no-done"])
def test_the_stream_may_look_as_it_likes(user: UserClient, model: str) -> None:
    events = ask(user, model)
    assert (text_of(events), events[-1].type) == (script_for(model).text, "run.completed")


@pytest.mark.usefixtures("by_name")
@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("error-midstream", "provider-error", 20),
        ("filter-midstream", "content-filtered", 20),
        ("malformed", "provider-error", 20),
        ("cut-5", "provider-cut-off", 5),
        pytest.param("stall-3", "provider-timeout", 3, marks=pytest.mark.impatient),
        ("error-401", "credential-rejected", 0),
        ("error-429", "rate-limited", 0),
        ("error-quota", "quota-exceeded", 0),
        ("error-context", "context-too-long", 0),
        ("error-filter", "content-filtered", 0),
        ("error-bad-request", "bad-request", 0),
        ("no-such-model", "model-not-found", 0),
    ],
)
def test_every_failure_has_the_code_that_it_has_elsewhere(
    user: UserClient, provider: ScriptedProvider, model: str, code: str, words: int
) -> None:
    events = ask(user, model)
    assert (events[-1].type, events[-1].data["code"]) == ("run.failed", code)
    # A break is mended once, and breaks again: the rest then begins anew.
    expected = "".join(script_for(model).tokens[:words]) if words else ""
    assert text_of(events)[: len(expected)] == expected
    assert len(text_of(events)) == len(expected) or code == "provider-cut-off"
    assert latest(provider)[0][0] == "responses"


@pytest.mark.usefixtures("by_name")
def test_what_broke_off_is_tried_again_and_mended(
    user: UserClient, provider: ScriptedProvider
) -> None:
    # The provider counts by model and question; others ask the same model.
    events = ask(user, "flaky-cut-1-503", "by the Responses API")
    assert text_of(events) == "".join(script_for("stream-30-1").tokens)
    kinds = [event.type for event in events if event.type != "text.delta"]
    assert kinds == ["run.started", "run.retrying", "run.seam", "run.completed"]
    assert {api for api, _ in latest(provider, 3)} == {"responses"}


@pytest.mark.usefixtures("by_name")
def test_stop_ends_the_providers_stream(user: UserClient, provider: ScriptedProvider) -> None:
    sent = user.send(user.create_conversation().id, "hello", model="stream-2000-10")
    with user.follow(sent.run_id) as follower:
        while not text_of(follower.wait(1)):
            pass
    assert user.cancel(sent.run_id).state == "cancelled"
    wait_until(lambda: latest(provider) == [("responses", "closed-by-client")])


@pytest.mark.usefixtures("by_name")
def test_the_whole_conversation_goes_along_with_prompt_and_images(
    user: UserClient, papita: FakePapita, provider: ScriptedProvider
) -> None:
    conversation = user.create_conversation(system_prompt="Be brief.")
    follow_to_end(user, user.send(conversation.id, "First.", model="echo").run_id)
    picture = user.upload("cow.png", image())
    sent = user.send(conversation.id, "And this?", model="echo-all", attachments=[picture.id])
    said = text_of(follow_to_end(user, sent.run_id))
    assert latest(provider) == [("responses", "completed")]
    assert said.startswith("system: Be brief.\nuser: First.\nassistant: First.\nuser: [Attached")
    assert "And this? [data:image/png;base64, " in said
    refused = user.send(conversation.id, "And now?", model="no-images")
    assert follow_to_end(user, refused.run_id)[-1].data["code"] == "images-refused"
    # The same, asked for chat completions: a conversation can change its provider at any time.
    papita.base_url = provider.base_url
    again = user.send(conversation.id, "More.", model="echo-all")
    other = text_of(follow_to_end(user, again.run_id))
    assert other.startswith(said)
    assert latest(provider) == [("chat", "completed")]


@pytest.mark.usefixtures("by_name")
def test_parameters_go_under_their_names_here(user: UserClient, provider: ScriptedProvider) -> None:
    given = {"temperature": 0.5, "topP": 1, "maxTokens": 7, "reasoningEffort": "low"}
    events = ask_with(user, "stream-40-1", given)
    assert text_of(events) == "".join(script_for("stream-40-1").tokens[:7])
    assert events[-1].type == "run.completed"
    assert provider.requests()["recent"][-1]["parameters"] == {
        "temperature": 0.5,
        "top_p": 1,
        "max_output_tokens": 7,
        "reasoning": {"effort": "low"},
        "store": False,
    }


@pytest.mark.usefixtures("by_name")
@pytest.mark.parametrize("parameters", [{"seed": 3}, {"stop": ["END"]}])
def test_what_the_api_has_no_place_for_goes_by_chat_completions(
    user: UserClient, provider: ScriptedProvider, parameters: dict[str, Any]
) -> None:
    assert ask_with(user, "stream-3-1", parameters)[-1].type == "run.completed"
    assert latest(provider) == [("chat", "completed")]
    assert provider.requests()["recent"][-1]["parameters"] == parameters


@pytest.mark.usefixtures("by_name")
def test_thoughts_come_as_a_summary_where_the_organization_may_have_one(
    user: UserClient, provider: ScriptedProvider
) -> None:
    events = ask(user, "o3-thinking")
    assert thoughts_of(events) == "".join(script_for("o3-thinking").thoughts)
    assert text_of(events) == script_for("o3-thinking").text
    assert events[-1].data["usage"]["reasoningTokens"] == 15
    assert provider.requests()["recent"][-1]["parameters"]["reasoning"] == {"summary": "auto"}
    assert thoughts_of(ask(user, "thinking-router")) == thoughts_of(events)
    # Where it may not, the answer comes without one, and from then on none is asked for.
    before = provider.requests()["total"]
    for _ in range(2):
        events = ask(user, "o3-unverified")
        assert (events[-1].type, thoughts_of(events)) == ("run.completed", "")
    assert provider.requests()["total"] == before + 3
    states = [state for _, state in latest(provider, 3)]
    assert states == ["refused", "completed", "completed"]


def test_a_model_of_the_other_api_is_asked_by_that_and_remembered(
    user: UserClient, papita: FakePapita, provider: ScriptedProvider
) -> None:
    for base_url, model, apis in (
        (provider.base_url, "responses-only", ["chat", "responses", "responses"]),
        (provider.by_name + "/v1", "chat-only", ["responses", "chat", "chat"]),
    ):
        papita.base_url = base_url
        for _ in range(2):
            events = ask(user, model)
            assert text_of(events) == script_for(model).text
            assert [event.type for event in events if event.type == "run.retrying"] == []
        assert [api for api, _ in latest(provider, 3)] == apis
    # Nothing is left out in silence.
    papita.base_url = provider.base_url
    failed = ask_with(user, "responses-only", {"seed": 1})[-1]
    assert failed.data["code"] == "bad-request"
    assert "the parameter seed" in failed.data["message"]


LOAN = Loan("c", "openai", "l", "https://api.openai.com/v1", None)
ASKED = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("refusal", "turned"),
    [
        (Refusal(400, "unsupported_api_for_model", "", "", "model x is not accessible"), True),
        (Refusal(400, "", "", "", "please use /v1/responses instead."), True),
        (Refusal(400, "OperationNotSupported", "", "", "the chatcompletion operation does not work"
                 " with the specified model, gpt-5-codex."), True),
        (Refusal(404, "", "", "model", "this is not a chat model and thus not supported in the"
                 " v1/chat/completions endpoint. did you mean to use v1/completions?"), False),
        (Refusal(404, "model_not_found", "", "model", "there is no such model"), False),
        (Refusal(429, "", "", "", "only so many responses a minute"), False),
        (Refusal(500, "", "", "", "use the responses api"), False),
    ],
)  # fmt: skip
def test_what_says_that_only_the_responses_api_will_do(refusal: Refusal, turned: bool) -> None:
    forms = Forms(())
    question = forms.question(LOAN, LOAN.base_url, "m", ASKED, {})
    assert question.path == "/chat/completions"
    assert question.again(refusal) is turned
    assert question.path == ("/responses" if turned else "/chat/completions")
    # Only what worked is remembered.
    assert forms.question(LOAN, LOAN.base_url, "m", ASKED, {}).path == "/chat/completions"
    question.taken()
    assert forms.question(LOAN, LOAN.base_url, "m", ASKED, {}).path == question.path
    assert not question.again(refusal)


@pytest.mark.parametrize(
    ("refusal", "turned"),
    [
        (Refusal(404, "", "", "", "not found"), True),
        (Refusal(405, "", "", "", ""), True),
        (Refusal(400, "model_not_found", "", "model", "the requested model 'o1-preview' is not"
                 " supported with the responses api."), True),
        (Refusal(404, "model_not_found", "", "", ""), False),
        (Refusal(404, "", "", "", "the model does not exist"), False),
        (Refusal(400, "", "", "temperature", "unsupported value"), False),
    ],
)  # fmt: skip
def test_what_says_that_only_chat_completions_will_do(refusal: Refusal, turned: bool) -> None:
    question = Forms(["https://api.openai.com"]).question(LOAN, LOAN.base_url, "m", ASKED, {})
    assert question.path == "/responses"
    assert question.again(refusal) is turned
    assert question.path == ("/chat/completions" if turned else "/responses")


def test_a_parameter_that_fits_nowhere_is_named() -> None:
    forms = Forms(())
    forms.remember(LOAN.base_url, "m", True)
    with pytest.raises(RunError) as refused:
        forms.question(LOAN, LOAN.base_url, "m", ASKED, {"stop": ["x"]})
    assert "the parameter stop" in refused.value.message


def test_calls_of_tools_are_items_of_their_own() -> None:
    function = {"name": "clock", "description": "The time.", "parameters": {"type": "object"}}
    called = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How late is it?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "assistant", "content": None, "tool_calls": [{**called, "id": "c2"}]},
        {"role": "tool", "tool_call_id": "c2", "content": "later"},
    ]
    tools = [{"type": "function", "function": function}]
    given = {"tools": tools, "tool_choice": "none"}
    body = body_of("m", messages, given, summary=False)
    assert body["tools"] == [{"type": "function", "strict": False, **function}]
    assert (body["tool_choice"], body["instructions"]) == ("none", "Be brief.")
    assert body["input"] == [
        {"role": "user", "content": "How late is it?"},
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "c1", "name": "clock", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "noon"},
        {"type": "function_call", "call_id": "c2", "name": "clock", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c2", "output": "later"},
    ]


def read(*events: Body) -> ResponseReader:
    reader = ResponseReader()
    for event in events:
        reader.feed(b"event: x\ndata: " + orjson.dumps(event) + b"\n\n")
    return reader


def delta(text: Any, kind: str = "output_text", **place: int) -> Body:
    return {"type": f"response.{kind}.delta", "delta": text, **place}


def test_parts_of_an_answer_stand_apart() -> None:
    reader = read(
        delta("I look", output_index=0, content_index=0),
        delta(" it up.", output_index=0, content_index=0),
        delta("It is ", output_index=2),
        delta("so.", output_index=2),
        delta("", output_index=3),
        delta(None, output_index=3),
    )
    assert reader.take() == "I look it up.\n\nIt is so."
    thought = "reasoning_summary_text"
    reader = read(
        delta("First", thought, output_index=0, summary_index=0),
        delta(" this.", thought, output_index=0, summary_index=0),
        delta("Then that.", thought, output_index=0, summary_index=1),
        delta("No.", "refusal", output_index=1),
    )
    assert (reader.take_thoughts(), reader.take()) == ("First this.\n\nThen that.", "No.")


def test_the_last_event_says_how_it_ended_and_may_be_long() -> None:
    used = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    text = "x" * 2_000_000
    output = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
    whole = {"status": "completed", "output": output, "usage": used}
    line = b"data: " + orjson.dumps({"type": "response.completed", "response": whole}) + b"\n"
    reader = ResponseReader()
    for start in range(0, len(line), 65_536):
        reader.feed(line[start : start + 65_536])
    # Nothing had come before: some gateways send all at the end.
    assert (reader.take() == text, reader.done, reader.finish_reason) == (True, True, "stop")
    assert reader.usage == {"promptTokens": 5, "completionTokens": 7, "totalTokens": 12}
    reader = read(delta("y"), {"type": "response.completed", "response": whole})
    assert reader.take() == "y"

    for reason, expected in (("content_filter", "content_filter"), ("max_output_tokens", "length")):
        response = {"incomplete_details": {"reason": reason}}
        reader = read({"type": "response.incomplete", "response": response})
        assert (reader.done, reader.finish_reason) == (True, expected)
    with pytest.raises(MalformedStreamError):
        ResponseReader().feed(b"x" * (ResponseReader.longest + 1))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            {"type": "response.failed", "response": {"error": {"code": "server_error"}}},
            {"code": "server_error"},
        ),
        ({"type": "response.failed", "response": None}, {"code": "server_error"}),
        (
            {"type": "error", "code": "rate_limit_exceeded", "message": "m", "param": None},
            {"type": "error", "code": "rate_limit_exceeded", "message": "m", "param": None},
        ),
        (
            {"type": "error", "error": {"code": "context_length_exceeded"}},
            {"code": "context_length_exceeded"},
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "invalid_prompt"}}},
            {"code": "content_filter"},
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "invalid_image"}}},
            {"code": 400},
        ),
        ({"error": {"message": "of a gateway"}}, {"message": "of a gateway"}),
    ],
)
def test_errors_in_mid_stream_are_handed_on_in_known_words(event: Body, expected: Body) -> None:
    with pytest.raises(ProviderReportedError) as reported:
        read(event)
    assert reported.value.error == expected


def test_calls_are_read_and_odd_events_passed_over() -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "clock", "arguments": '{"a": 1}'}
    reader = read(
        {"type": "response.created", "response": {"error": None}},
        {"type": "response.output_item.done", "item": {"type": "reasoning", "summary": []}},
        {"type": "response.output_item.done", "item": 7},
        {"type": "response.function_call_arguments.delta", "delta": '{"a"'},
        {"type": "response.unheard_of", "delta": "no text"},
        {"type": "response.output_item.done", "item": call},
        {"type": "response.output_item.done", "item": {**call, "call_id": None, "name": 3}},
    )
    assert reader.take_called()
    assert [(one.id, one.name, one.arguments) for one in reader.calls] == [
        ("c1", "clock", '{"a": 1}'),
        ("", "", '{"a": 1}'),
    ]
    assert (reader.take(), reader.any_event, reader.done) == ("", True, False)
    with pytest.raises(MalformedStreamError):
        read(*[{"type": "response.output_item.done", "item": call}] * 129)
