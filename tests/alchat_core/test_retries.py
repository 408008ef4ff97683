"""Answers that are tried again by policy, the breaker per origin, and breaks in mid-stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import ScriptedProvider, Service, ask, follow_to_end, text_of, wait_until
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, Event, UserClient
from alchat_core.errors import RunError
from alchat_core.providers.backoff import FIRST_SECONDS, LONGEST_SECONDS, in_words, pause_before
from alchat_core.providers.breaker import Breaker
from demo.provider.scripts import script_for


def of_type(events: list[Event], kind: str) -> list[Any]:
    return [dict(event.data) for event in events if event.type == kind]


@pytest.fixture
def unique(username: str) -> str:
    """A question that no other test asks: the provider counts by it."""
    return f"hello from {username}"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (0, "provider-unreachable"),
        (408, "provider-timeout"),
        (409, "provider-error"),
        (429, "rate-limited"),
        (500, "provider-error"),
        (503, "provider-error"),
        (504, "provider-timeout"),
    ],
)
def test_a_failure_that_may_pass_is_tried_again(
    user: UserClient, unique: str, status: int, code: str
) -> None:
    # A dropped connection is asked once more at once, since it may have been a stale one.
    events = ask(user, f"flaky-{2 if status == 0 else 1}-{status}", unique)
    assert [event.type for event in events[:2]] == ["run.started", "run.retrying"]
    (retrying,) = of_type(events, "run.retrying")
    assert (retrying["attempt"], retrying["code"]) == (2, code)
    assert 0 <= retrying["waitSeconds"] <= FIRST_SECONDS
    assert events[-1].type == "run.completed"
    assert text_of(events) == script_for(f"flaky-1-{status}").text
    assert [event.id for event in events] == list(range(1, len(events) + 1))


def test_attempts_are_counted_and_come_to_an_end(
    user: UserClient, provider: ScriptedProvider, unique: str
) -> None:
    assert ask(user, "flaky-2-503", unique)[-1].type == "run.completed"
    before = provider.requests()["total"]
    events = ask(user, "flaky-3-503", unique)
    assert [one["attempt"] for one in of_type(events, "run.retrying")] == [2, 3]
    assert events[-1].data["code"] == "provider-error"
    assert provider.requests()["total"] - before == 3


@pytest.mark.parametrize(
    "model", ["error-401", "error-quota", "error-context", "error-bad-request", "no-such-model"]
)
def test_what_would_fail_again_is_not_tried_again(user: UserClient, model: str) -> None:
    assert [event.type for event in ask(user, model)] == ["run.started", "run.failed"]


@pytest.mark.parametrize("form", ["1", "1d"])
def test_retry_after_is_obeyed(user: UserClient, unique: str, form: str) -> None:
    begin = time.monotonic()
    events = ask(user, f"flaky-1-429-{form}", unique)
    (retrying,) = of_type(events, "run.retrying")
    # A date counts whole seconds, so up to one of them may have passed.
    assert (0.9 if form == "1" else 0) <= retrying["waitSeconds"] <= 1 + FIRST_SECONDS
    assert time.monotonic() - begin >= retrying["waitSeconds"]
    assert events[-1].type == "run.completed"


@pytest.mark.parametrize("form", ["300", "300d"])
def test_beyond_the_limit_the_failure_says_when(user: UserClient, unique: str, form: str) -> None:
    events = ask(user, f"flaky-1-429-{form}", unique)
    assert [event.type for event in events] == ["run.started", "run.failed"]
    assert 298 <= events[-1].data["retryAfter"] <= 300
    assert events[-1].data["message"].endswith("Try again in 5 minutes.")


def test_stop_during_the_wait_works_at_once(
    own_service: Callable[..., Service], papita: FakePapita, unique: str
) -> None:
    service = own_service(ALCHAT_RETRY_AFTER_LIMIT="60")
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("stopper"))
    sent = user.send(user.create_conversation().id, unique, model="flaky-1-429-50")
    with user.follow(sent.run_id) as follower:
        events = follower.wait(10)
        while events[-1].type != "run.retrying":
            events += follower.wait(10)
        assert user.cancel(sent.run_id).state == "cancelled"
    client.close()


def test_no_retries_when_they_are_switched_off(
    own_service: Callable[..., Service], papita: FakePapita, unique: str
) -> None:
    service = own_service(ALCHAT_PROVIDER_RETRIES="0")
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("once"))
    assert [event.type for event in ask(user, "flaky-1-503", unique)] == [
        "run.started",
        "run.failed",
    ]
    client.close()


def test_a_loan_older_than_its_lease_is_borrowed_again(
    user: UserClient, papita: FakePapita, username: str, unique: str
) -> None:
    papita.token_seconds = 0.6
    events = ask(user, "flaky-1-503-1", unique)
    assert events[-1].type == "run.completed"
    assert papita.loans[username] == 2
    assert len(set(papita.runs[username])) == 1
    papita.token_seconds = 300.0
    time.sleep(0.7)  # until the token of before is of no use to the next answer
    ask(user, "flaky-1-503", unique)
    assert papita.loans[username] == 3


@pytest.fixture
def other_provider(papita: FakePapita) -> Iterator[ScriptedProvider]:
    running = ScriptedProvider()
    papita.base_url = running.base_url
    yield running
    running.stop()


def test_the_breaker_leaves_an_origin_alone_that_is_down(
    own_service: Callable[..., Service], papita: FakePapita, other_provider: ScriptedProvider
) -> None:
    service = own_service(
        PAPITA_PROVIDER_ALLOWLIST=other_provider.origin,
        ALCHAT_PROVIDER_RETRIES="0",
        ALCHAT_BREAKER_FAILURES="3",
        ALCHAT_BREAKER_SECONDS="2",
    )
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("breaker"))
    # Refusals of one key or one request say nothing about the origin, and end a row of failures.
    for model in ("error-500", "error-503", "error-429", "error-401", "error-500", "error-503"):
        assert "rest" not in ask(user, model)[-1].data["message"]
    assert ask(user, "echo")[-1].type == "run.completed"
    other_provider.behave(down=True)
    for _ in range(3):
        assert ask(user, "echo")[-1].data["code"] == "provider-unreachable"
    other_provider.behave(down=False)
    refused = ask(user, "echo")[-1].data
    assert refused["code"] == "provider-unreachable"
    assert refused["retryAfter"] in (1, 2)
    assert "giving it a rest" in refused["message"]
    before = other_provider.requests()["total"]
    wait_until(lambda: ask(user, "echo")[-1].type == "run.completed", 5.0)
    assert other_provider.requests()["total"] == before + 1
    client.close()


def test_half_open_one_may_try_and_its_outcome_decides() -> None:
    now = [0.0]
    breaker = Breaker(2, 10.0, lambda: now[0])

    def use(error: Exception | None = None) -> None:
        with breaker.asking("http://a", lambda one: isinstance(one, OSError)):
            if error is not None:
                raise error

    def refused() -> bool:
        try:
            use()
        except RunError:
            return True
        return False

    for error in (OSError(), ValueError(), OSError(), OSError()):
        with pytest.raises(type(error)):
            use(error)
    assert refused()
    with breaker.asking("http://b", lambda _: True):
        pass
    now[0] = 10.0
    trial = breaker.asking("http://a", lambda one: isinstance(one, OSError))
    with trial:
        assert refused()
    assert not refused()

    for _ in range(2):
        with pytest.raises(OSError):
            use(OSError())
    now[0] = 20.0
    with pytest.raises(OSError):
        use(OSError())
    assert refused()
    now[0] = 30.0
    # A trial that was stopped decides nothing; the next one tries.
    with (
        pytest.raises(KeyboardInterrupt),
        breaker.asking("http://a", lambda _: True),
    ):
        raise KeyboardInterrupt
    assert not refused()


def test_pauses_grow_are_jittered_and_have_an_end() -> None:
    most = [pause_before(attempt, None, 5.0, lambda: 1.0) for attempt in range(2, 10)]
    assert most[:3] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert most[-1] == LONGEST_SECONDS
    assert pause_before(5, None, 5.0, lambda: 0.0) == 0
    assert pause_before(2, 5, 5.0, lambda: 0.0) == 5
    assert pause_before(2, 6, 5.0) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "in a second"),
        (90, "in 90 seconds"),
        (121, "in 3 minutes"),
        (7200, "in 2 hours"),
    ],
)
def test_a_time_in_words(seconds: int, words: str) -> None:
    assert in_words(seconds) == words


def test_a_break_in_mid_stream_is_mended_and_the_seam_is_on_record(
    user: UserClient, provider: ScriptedProvider
) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="cut-once-7-30")
    events = follow_to_end(user, sent.run_id)
    assert events[-1].type == "run.completed"
    whole = script_for("stream-30-0").text
    assert text_of(events) == whole
    (seam,) = of_type(events, "run.seam")
    kept = script_for("stream-30-0").tokens[:7]
    assert seam == {"keptCharacters": len("".join(kept)), "code": "provider-cut-off"}
    place = next(i for i, event in enumerate(events) if event.type == "run.seam")
    assert text_of(events[:place]) == "".join(kept)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert user.messages(conversation.id).items[-1].content == whole
    # Asked again: the question, what was kept, and the request to go on.
    assert provider.requests()["recent"][-1]["messages"] == 3
    assert follow_to_end(user, sent.run_id) == events


@pytest.mark.parametrize("model", ["cut-5", "reset-5"])
def test_a_second_break_ends_the_answer_with_its_text(user: UserClient, model: str) -> None:
    events = ask(user, model)
    assert [event.type for event in events if event.type != "text.delta"] == [
        "run.started",
        "run.seam",
        "run.failed",
    ]
    assert events[-1].data["code"] == "provider-cut-off"
    assert text_of(events) == script_for(model).text


def test_a_provider_that_is_gone_after_a_break(
    own_service: Callable[..., Service], papita: FakePapita, other_provider: ScriptedProvider
) -> None:
    service = own_service(PAPITA_PROVIDER_ALLOWLIST=other_provider.origin)
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("gone"))
    sent = user.send(user.create_conversation().id, "hello", model="stream-2000-5")
    with user.follow(sent.run_id) as follower:
        events = follower.wait(10)
        while not text_of(events):
            events += follower.wait(10)
        other_provider.behave(down=True)
        while not follower.finished:
            events += follower.wait(10)
    assert [event.type for event in events if event.type != "text.delta"] == [
        "run.started",
        "run.seam",
        "run.failed",
    ]
    assert events[-1].data["code"] == "provider-cut-off"
    assert script_for("stream-2000-5").text.startswith(text_of(events))
    client.close()


def test_an_answer_that_was_tried_again_is_mended_all_the_same(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service(ALCHAT_PROVIDER_RETRIES="1")
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("twice"))
    events = ask(user, "flaky-cut-1-503")
    assert [event.type for event in events if event.type != "text.delta"] == [
        "run.started",
        "run.retrying",
        "run.seam",
        "run.completed",
    ]
    assert text_of(events) == script_for("stream-30-0").text
    client.close()
