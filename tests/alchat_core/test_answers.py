"""Answers: every way in which they end, and who may follow, stop, repeat and resume them."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable

import pytest
import requests
from conftest import ScriptedProvider, Service, ask, follow_to_end, text_of, wait_until
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, Conflict, Invalid, NotFound, TooMany, UserClient
from alchat_core.errors import RUN_ERRORS
from demo.provider.scripts import script_for


def test_an_answer_arrives_in_numbered_events_and_is_kept(user: UserClient) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "How do potatoes grow?", model="stream-40-2")
    events = follow_to_end(user, sent.run_id)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert events[0].type == "run.started"
    assert events[0].data == {"model": "stream-40-2"}
    assert events[-1].type == "run.completed"
    assert events[-1].data["usage"]["completionTokens"] == 40
    assert text_of(events) == script_for("stream-40-2").text

    question, answer = user.messages(conversation.id)
    assert (question.role, question.content) == ("user", "How do potatoes grow?")
    assert (answer.id, answer.parent_id) == (sent.message_id, question.id)
    assert answer.content == text_of(events)
    assert answer.model == "stream-40-2"
    assert answer.run is not None
    assert answer.run.state == "completed"
    run = user.run(sent.run_id)
    assert (run.state, run.last_event, run.active) == ("completed", len(events), False)
    kept = user.conversation(conversation.id)
    assert (kept.title, kept.model) == ("How do potatoes grow?", "stream-40-2")
    assert kept.active_run_id is None


def test_without_a_model_the_default_answers_and_is_remembered(user: UserClient) -> None:
    assert user.models()[0] == "demo"
    conversation = user.create_conversation()
    first = user.send(conversation.id, "hello")
    with user.follow(first.run_id) as follower:
        assert follower.wait(10)[0].data == {"model": "demo"}
    user.cancel(first.run_id)
    follow_to_end(user, user.send(conversation.id, "again", model="echo").run_id)
    events = follow_to_end(user, user.send(conversation.id, "once more").run_id)
    assert events[0].data == {"model": "echo"}
    # A model that failed is not what the next message asks.
    follow_to_end(user, user.send(conversation.id, "and now", model="no-such-model").run_id)
    assert user.conversation(conversation.id).model == "echo"


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("error-401", "credential-rejected"),
        ("error-403", "credential-rejected"),
        ("error-429", "rate-limited"),
        ("error-quota", "quota-exceeded"),
        ("error-500", "provider-error"),
        ("error-503", "provider-error"),
        ("error-context", "context-too-long"),
        ("error-filter", "content-filtered"),
        ("filter-midstream", "content-filtered"),
        ("error-bad-request", "bad-request"),
        ("error-midstream", "provider-error"),
        ("no-such-model", "model-not-found"),
        pytest.param("hang", "provider-timeout", marks=pytest.mark.impatient),
        pytest.param("stall-3", "provider-timeout", marks=pytest.mark.impatient),
        ("cut-5", "provider-cut-off"),
        ("reset-5", "provider-cut-off"),
        ("malformed", "provider-error"),
    ],
)
def test_every_failure_of_a_provider_has_its_code(user: UserClient, model: str, code: str) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model=model)
    events = follow_to_end(user, sent.run_id)
    assert events[-1].type == "run.failed"
    assert events[-1].data["code"] == code
    assert events[-1].data["retryAfter"] == (7 if model == "error-429" else None)
    answer = user.messages(conversation.id).items[-1]
    assert answer.error is not None
    assert answer.error.code == code
    assert answer.error.message.endswith(".")
    assert answer.content == text_of(events)
    if model in ("cut-5", "stall-3"):
        assert answer.content == script_for(model).text


@pytest.mark.parametrize("model", ["no-done", "no-usage", "crlf", "comments", "split", "empty"])
def test_odd_but_honest_streams_are_read(user: UserClient, model: str) -> None:
    events = ask(user, model)
    assert events[-1].type == "run.completed"
    assert text_of(events) == script_for(model).text


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("consent-required", "consent-required"),
        ("invalid-client", "papita-error"),
        ("invalid-grant", "session-ended"),
        ("token-500", "papita-error"),
        ("credential-not-found", "credential-missing"),
        ("credential-expired", "credential-expired"),
        ("credential-disabled", "credential-disabled"),
        ("secret-unreadable", "credential-rejected"),
        ("project-disabled", "project-disabled"),
        ("session-ended", "session-ended"),
        ("vault-sealed", "vault-sealed"),
        ("rate-limited", "rate-limited"),
        ("credential-401", "session-ended"),
        ("credential-403", "papita-error"),
        ("redirect", "papita-error"),
        ("nonsense", "papita-error"),
        pytest.param("hang", "papita-unreachable", marks=pytest.mark.impatient),
    ],
)
def test_every_refusal_of_papita_has_its_code(
    user: UserClient, papita: FakePapita, behaviour: str, code: str
) -> None:
    papita.behaviour = behaviour
    events = ask(user, "echo")
    assert [event.type for event in events] == ["run.failed"]
    assert events[0].data["code"] == code
    assert events[0].data["retryAfter"] == (9 if behaviour == "rate-limited" else None)
    papita.behaviour = ""
    assert ask(user, "echo")[-1].type == "run.completed"


def test_a_provider_that_is_down_and_one_at_a_forbidden_address(
    user: UserClient, papita: FakePapita, provider: ScriptedProvider
) -> None:
    provider.behave(down=True)
    try:
        assert ask(user, "echo")[-1].data["code"] == "provider-unreachable"
    finally:
        provider.behave(down=False)
    for base_url in (
        "http://127.0.0.1:9/v1",
        "http://localhost:9/v1",
        "http://[::ffff:127.0.0.1]:9/v1",
        "http://2130706433/v1",
        "http://169.254.169.254/latest",
    ):
        papita.base_url = base_url
        other = user._client.as_user(lambda: papita.token_for("forbidden"))
        failed = ask(other, "echo")[-1].data
        assert failed["code"] == "bad-request", base_url
        assert "PAPITA_PROVIDER_ALLOWLIST" in failed["message"]


def test_following_again_gives_exactly_what_is_missing(user: UserClient) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-60-10")
    with user.follow(sent.run_id) as follower:
        seen = follower.wait(10)
        while len(seen) < 4:
            seen += follower.wait(10)
    rest = follow_to_end(user, sent.run_id, after=seen[-1].id)
    whole = follow_to_end(user, sent.run_id)
    assert [event.id for event in whole] == [event.id for event in seen + rest]
    assert text_of(whole) == text_of(seen + rest) == script_for("stream-60-10").text


def test_last_event_id_wins_over_after_and_nothing_more_is_204(
    user: UserClient, service: Service, papita: FakePapita, username: str
) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-10-1")
    events = follow_to_end(user, sent.run_id)
    headers = {"Authorization": f"Bearer {papita.token_for(username)}"}
    url = f"{service.url}/api/runs/{sent.run_id}/events"
    got = requests.get(
        url,
        params={"after": 0},
        headers={**headers, "Last-Event-ID": str(events[-2].id)},
        timeout=5,
    )
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.text.startswith(f"id: {events[-1].id}\nevent: run.completed\n")
    assert requests.get(url, params={"after": 99}, headers=headers, timeout=5).status_code == 204
    odd = requests.get(url, headers={**headers, "Last-Event-ID": "x"}, timeout=5)
    assert odd.status_code == 422


def test_many_followers_see_the_same_events(user: UserClient) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-50-4")
    results: list[list[int]] = []
    threads = [
        threading.Thread(
            target=lambda: results.append([e.id for e in follow_to_end(user, sent.run_id)])
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(result == results[0] for result in results)


def test_stop_closes_the_providers_stream_and_keeps_the_text(
    user: UserClient, provider: ScriptedProvider
) -> None:
    waits = []
    for _ in range(3):  # what else the machine does can only make it slower
        conversation = user.create_conversation()
        sent = user.send(conversation.id, "hello", model="stream-2000-10")
        with user.follow(sent.run_id) as follower:
            seen = []
            while not any(event.type == "text.delta" for event in seen):
                seen += follower.wait(10)
            begin = time.monotonic()
            run = user.cancel(sent.run_id)
            assert run.state == "cancelled"
            wait_until(lambda: provider.requests()["recent"][-1]["state"] == "closed-by-client")
            waits.append(time.monotonic() - begin)
            while not follower.finished:
                seen += follower.wait(10)
        assert seen[-1].type == "run.cancelled"
        answer = user.messages(conversation.id).items[-1]
        assert answer.content == text_of(seen)
        assert user.cancel(sent.run_id).state == "cancelled"
        assert user.conversation(conversation.id).active_run_id is None
    assert min(waits) < 1.0


def test_losing_the_follower_is_not_stop(user: UserClient) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-30-10")
    with user.follow(sent.run_id) as follower:
        follower.wait(10)
    wait_until(lambda: user.run(sent.run_id).state == "completed")
    assert user.messages(conversation.id).items[-1].content == script_for("stream-30-10").text


def test_a_second_message_meanwhile_is_refused(user: UserClient) -> None:
    conversation = user.create_conversation()
    first = user.send(conversation.id, "one", model="stream-500-10")
    assert user.conversation(conversation.id).active_run_id == first.run_id
    with pytest.raises(Conflict) as refused:
        user.send(conversation.id, "two")
    assert refused.value.code == "run-active"
    user.cancel(first.run_id)
    follow_to_end(user, user.send(conversation.id, "two", model="echo").run_id)
    assert [m.content for m in user.messages(conversation.id) if m.role == "user"] == ["one", "two"]


def test_two_messages_at_once_give_one_answer(user: UserClient) -> None:
    conversation = user.create_conversation()
    outcomes: list[str] = []

    def send() -> None:
        try:
            outcomes.append(user.send(conversation.id, "hello", model="stream-100-5").run_id)
        except Conflict as refused:
            outcomes.append(refused.code)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("run-active") == 5
    assert len(user.messages(conversation.id).items) == 2


def test_the_same_key_gives_the_same_answer_and_another_body_is_refused(user: UserClient) -> None:
    conversation = user.create_conversation()
    first = user.send(conversation.id, "hello", model="echo", idempotency_key="k-1")
    again = user.send(conversation.id, "hello", model="echo", idempotency_key="k-1")
    assert again == first
    with pytest.raises(Invalid) as refused:
        user.send(conversation.id, "other", model="echo", idempotency_key="k-1")
    assert refused.value.code == "idempotency-key-reused"
    follow_to_end(user, first.run_id)
    assert len(user.messages(conversation.id).items) == 2


def test_trying_again_adds_a_sibling(user: UserClient) -> None:
    conversation = user.create_conversation()
    first = user.send(conversation.id, "hello", model="error-500")
    follow_to_end(user, first.run_id)
    question = user.messages(conversation.id).items[0]
    second = user.retry(question.id, model="echo")
    assert second.message_id != first.message_id
    follow_to_end(user, second.run_id)
    messages = user.messages(conversation.id).items
    assert [message.id for message in messages] == [question.id, second.message_id]
    assert messages[-1].content == "hello"
    with pytest.raises(Invalid):
        user.retry(second.message_id)


def test_the_branch_up_to_the_parent_is_what_the_provider_reads(
    user: UserClient, provider: ScriptedProvider
) -> None:
    conversation = user.create_conversation()
    first = user.send(conversation.id, "one", model="echo")
    follow_to_end(user, first.run_id)
    follow_to_end(user, user.send(conversation.id, "two", model="error-500").run_id)
    follow_to_end(user, user.send(conversation.id, "three", model="echo").run_id)
    # one, its answer, two (whose answer has no text), three
    assert provider.requests()["recent"][-1]["messages"] == 4
    sent = user.send(conversation.id, "other two", model="echo", parent_id=first.message_id)
    follow_to_end(user, sent.run_id)
    assert provider.requests()["recent"][-1]["messages"] == 3
    branch = [message.content for message in user.messages(conversation.id)]
    assert branch == ["one", "one", "other two", "other two"]
    with pytest.raises(Invalid):
        user.send(conversation.id, "x", parent_id=user.messages(conversation.id).items[0].id)


def test_deleting_a_conversation_ends_its_answer(
    user: UserClient, provider: ScriptedProvider
) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-2000-10")
    with user.follow(sent.run_id) as follower:
        events = follower.wait(10)
        user.delete_conversation(conversation.id)
        while not follower.finished:
            events += follower.wait(10)
    assert events[-1].type == "run.cancelled"
    wait_until(lambda: provider.requests()["recent"][-1]["state"] == "closed-by-client", 1.0)
    for call in (
        lambda: user.conversation(conversation.id),
        lambda: user.run(sent.run_id),
        lambda: user.cancel(sent.run_id),
    ):
        with pytest.raises(NotFound):
            call()


def test_running_answers_of_one_user_are_limited(user: UserClient) -> None:
    runs = [
        user.send(user.create_conversation().id, "x", model="stream-500-10").run_id
        for _ in range(4)
    ]
    with pytest.raises(TooMany) as refused:
        user.send(user.create_conversation().id, "x", model="echo")
    assert refused.value.code == "too-many-running"
    for run in runs:
        user.cancel(run)


def test_a_killed_service_keeps_all_that_anybody_saw(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service()
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("kim"))
    sent = [
        (conversation.id, user.send(conversation.id, "hello", model="stream-3000-3"))
        for conversation in (user.create_conversation() for _ in range(3))
    ]
    followers = [user.follow(one.run_id) for _, one in sent]
    seen = [list(follower.wait(10)) for follower in followers]
    deadline = time.monotonic() + 0.7
    while time.monotonic() < deadline:
        for events, follower in zip(seen, followers, strict=True):
            events += follower.wait(0.01)
    service.stop(signal.SIGKILL)
    for events, follower in zip(seen, followers, strict=True):
        events += follower.wait(0.01)
    service.start()
    # The same followers find the service again and hear how their runs ended.
    for (conversation_id, one), events, follower in zip(sent, seen, followers, strict=True):
        shown = text_of(events)
        assert shown
        while not follower.finished:
            events += follower.wait(1)
        assert events[-1].type == "run.interrupted"
        assert [event.id for event in events] == list(range(1, len(events) + 1))
        assert user.run(one.run_id).state == "interrupted"
        content = user.messages(conversation_id).items[-1].content
        assert content == text_of(events)
        assert content.startswith(shown)
        assert script_for("stream-3000-3").text.startswith(content)
        follower.close()
        assert user.conversation(conversation_id).active_run_id is None
    client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_marks_answers_interrupted_and_is_quick(
    own_service: Callable[..., Service], papita: FakePapita, number: int
) -> None:
    service = own_service()
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("sam"))
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-3000-3")
    with user.follow(sent.run_id) as follower:
        events = follower.wait(10)
        begin = time.monotonic()
        assert service.stop(number) == 0
        assert time.monotonic() - begin < 6  # the answer would take nine
        while not follower.finished:
            events += follower.wait(1)
    assert events[-1].type == "run.interrupted"
    client.close()
    rows = sqlite3.connect(service.database)
    state, content = rows.execute(
        "SELECT state, content FROM runs JOIN messages ON messages.id = message_id"
    ).fetchone()
    rows.close()
    assert state == "interrupted"
    assert content == text_of(events)


def test_every_run_error_is_a_sentence_and_has_a_status() -> None:
    for code, explanation in RUN_ERRORS.items():
        assert explanation.message[0].isupper(), code
        assert explanation.message.endswith("."), code
        assert 400 <= explanation.status < 600, code
