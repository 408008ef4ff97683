"""Tokens and cost of answers, what a user sees of them, and the report to Papita."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from conftest import Service, ask, follow_to_end, text_of, wait_until
from fake_papita import FakePapita
from pydantic import ValidationError

from alchat_core.client import AlChatClient, UserClient
from alchat_core.credential_manager import _budget
from alchat_core.settings import Settings, price_of
from alchat_core.usage.prices import OWN, Prices
from alchat_core.usage.spent import NANO, Spent, Use, both, outbox_rows
from tests.papita_core.postgres import Postgres

OPENAI = "https://api.openai.com/v1"


def use(tokens: dict[str, int] | None, model: str = "gpt-4o", at: str = OPENAI, **more: Any) -> Use:
    moment = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000)
    return Use("lease", "credential", at, model, tokens, moment, **more)


def tokens(prompt: int, completion: int, **more: int) -> dict[str, int]:
    return {
        "promptTokens": prompt,
        "completionTokens": completion,
        "totalTokens": prompt + completion,
        **more,
    }


def cost(*uses: Use, own: dict[str, tuple[float, float]] | None = None) -> list[int | None]:
    found = asyncio.run(Prices(own or {}).priced(uses))
    return [one.cost_nano for one in found]


def test_a_known_model_at_its_own_address_has_a_price() -> None:
    plain, cached, thinking = cost(
        use(tokens(1000, 100)),
        use(tokens(1000, 100, cachedTokens=500)),
        # Thoughts that the completion leaves out are in the total, and paid for.
        use({"promptTokens": 1000, "completionTokens": 100, "totalTokens": 1300}),
    )
    assert plain is not None
    assert cached is not None
    assert thinking is not None
    assert 0 < cached < plain < thinking


@pytest.mark.parametrize(
    "unknown",
    [
        use(None),
        use({"totalTokens": 5}),
        use(tokens(-1, 5)),
        use(tokens(5, 5), model="nobody-knows-this-one"),
        # Who knows what a server in between takes for it.
        use(tokens(5, 5), at="https://proxy.example/v1"),
        use(tokens(5, 5), at="http://127.0.0.1:8000/v1"),
        use(tokens(5, 5), at="https://evil.example/api.openai.com/v1"),
    ],
)
def test_what_is_unknown_has_no_price(unknown: Use) -> None:
    assert cost(unknown) == [None]
    assert Spent((unknown,)).cost_nano is None
    assert Spent((unknown,)).unpriced == 1


def test_prices_of_the_settings_go_first() -> None:
    own = {"gpt-4o": (1.0, 2.0), "free": (0.0, 0.0)}
    assert cost(use(tokens(3, 5)), use(tokens(3, 5), model="free"), own=own) == [13_000, 0]
    (found,) = asyncio.run(Prices(own).priced([use(tokens(3, 5))]))
    assert found.price_source == OWN


@pytest.mark.parametrize("text", ["", "x", "=1/2", "m=1", "m=1/2/3", "m=-1/2", "m=1e9/2", "m=a/b"])
def test_a_price_that_cannot_be_read_stops_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="dollars per million"):
        price_of(text)
    if text:
        with pytest.raises(ValidationError, match="dollars per million"):
            Settings(alchat_prices=f"fine=1/2, {text}")
    assert Settings(alchat_prices="a=b:1 = 0.5 / 2").prices == {"a=b:1": (0.5, 2.0)}


def test_a_run_is_the_sum_of_its_requests_and_a_message_that_of_its_runs() -> None:
    one = use(tokens(10, 2), cost_nano=NANO, price_source="a")
    two = use(tokens(30, 4, reasoningTokens=3), cost_nano=NANO // 4, price_source="b")
    nothing = use(None)
    assert Spent((one, two)).usage == {**tokens(40, 6), "reasoningTokens": 3, "costUsd": 1.25}
    assert Spent((one, two)).price_source == "b"
    # What one request cost is unknown, so that of the whole is, too; the known part is kept.
    partly = Spent((one, nothing))
    assert partly.usage == {**tokens(10, 2), "costUsd": None}
    assert (partly.cost_nano, partly.unpriced) == (NANO, 1)
    assert Spent((nothing,)).usage is None
    assert Spent().usage is None
    whole = both(Spent((one,)).usage, Spent((two,)).usage)
    assert whole == {**tokens(40, 6), "reasoningTokens": 3, "costUsd": 1.25}
    assert both(None, Spent((two,)).usage) == {
        **tokens(30, 4),
        "reasoningTokens": 3,
        "costUsd": None,
    }
    assert both(None, None) is None
    assert [row["id"] for row in outbox_rows("run_1", [one, two])] == ["run_1-1", "run_1-2"]


@pytest.mark.parametrize(
    "wrong",
    [None, [], {}, {"period": "year"}, {"period": "day", "limitUsd": "5"}]
    + [
        {"period": "day", "limitUsd": 5, "spentUsd": spent, "beginsAnewAt": anew}
        for spent, anew in (("<b>", "2027-01-01T00:00:00Z"), (1, "soon"), (1, None), (1, 5))
    ],
)
def test_a_budget_in_another_form_is_none(wrong: object) -> None:
    assert _budget(wrong) is None


# --- with the service ---


def usage_of(service: Service, papita: FakePapita, name: str, **query: str) -> list[dict[str, Any]]:
    answer = requests.get(
        service.url + "/api/usage",
        params=query,
        headers={"Authorization": f"Bearer {papita.token_for(name)}"},
        timeout=5,
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["usage"]
    return found


def in_outbox(service: Service) -> int:
    with sqlite3.connect(service.database) as database:
        count: int = database.execute("SELECT count(*) FROM usage_outbox").fetchone()[0]
    return count


def reported(papita: FakePapita, run_id: str, count: int = 1) -> list[dict[str, Any]]:
    """What Papita was told of a run, once it was told so much."""

    def found() -> list[str]:
        return sorted(name for name in list(papita.usage) if name.startswith(f"{run_id}-"))

    wait_until(lambda: len(found()) >= count)
    return [papita.usage[name] for name in found()]


def test_an_answer_says_what_it_cost_wherever_it_is_shown(
    service: Service, papita: FakePapita, user: UserClient, username: str
) -> None:
    conversation = user.create_conversation("what it costs")
    sent = user.send(conversation.id, "one two three", model="echo")
    usage = follow_to_end(user, sent.run_id)[-1].data["usage"]
    expected = usage["promptTokens"] * 1000 + usage["completionTokens"] * 2000
    assert usage["costUsd"] == expected / 1_000_000 > 0
    assert user.messages(conversation.id).items[-1].usage == usage
    headers = {"Authorization": f"Bearer {papita.token_for(username)}"}
    run = requests.get(f"{service.url}/api/runs/{sent.run_id}", headers=headers, timeout=5).json()
    assert run["usage"] == usage
    figures = {
        "requests": 1,
        "unpricedRequests": 0,
        "promptTokens": usage["promptTokens"],
        "completionTokens": usage["completionTokens"],
        "costUsd": usage["costUsd"],
    }
    keys = {
        "day": (datetime.now(UTC).date().isoformat(), None),
        "model": ("echo", None),
        "conversation": (conversation.id, "what it costs"),
        "credential": (f"credential-{username}", None),
    }
    for group, (key, label) in keys.items():
        assert usage_of(service, papita, username, group=group) == [
            {"key": key, "label": label, **figures}
        ]
    (record,) = reported(papita, sent.run_id)
    assert record["credentialId"] == f"credential-{username}"
    assert record["leaseId"]
    assert (record["model"], record["costUsd"]) == ("echo", usage["costUsd"])
    assert (record["promptTokens"], record["completionTokens"]) == (
        usage["promptTokens"],
        usage["completionTokens"],
    )
    (line,) = user.usage("model", since=datetime.now(UTC).date() - timedelta(days=1))
    assert (line.key, line.requests, line.cost_usd) == ("echo", 1, usage["costUsd"])
    assert user.usage(until=datetime.now(UTC).date() - timedelta(days=1)) == ()
    user.delete_conversation(conversation.id)
    assert usage_of(service, papita, username) == []


def test_unknown_stays_unknown(
    service: Service, papita: FakePapita, user: UserClient, username: str
) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="no-usage")
    assert follow_to_end(user, sent.run_id)[-1].data["usage"] is None
    (record,) = reported(papita, sent.run_id)
    assert (record["promptTokens"], record["completionTokens"], record["costUsd"]) == (None,) * 3
    (line,) = usage_of(service, papita, username, group="model")
    assert (line["requests"], line["unpricedRequests"], line["costUsd"]) == (1, 1, 0)


def test_each_request_that_the_provider_took_counts_and_a_refused_one_does_not(
    service: Service, papita: FakePapita, user: UserClient, username: str
) -> None:
    mended = user.send(user.create_conversation().id, "hello", model="cut-once-7-30")
    usage = follow_to_end(user, mended.run_id)[-1].data["usage"]
    assert usage["costUsd"] is None
    first, second = reported(papita, mended.run_id, 2)
    assert first["completionTokens"] is None
    assert second["completionTokens"] == usage["completionTokens"]
    refused = ask(user, "error-401")
    assert refused[-1].data["code"] == "credential-rejected"
    lines = {line["key"]: line for line in usage_of(service, papita, username, group="model")}
    assert set(lines) == {"cut-once-7-30"}
    assert (lines["cut-once-7-30"]["requests"], lines["cut-once-7-30"]["unpricedRequests"]) == (
        2,
        2,
    )


def test_an_answer_that_is_continued_adds_up(
    service: Service, papita: FakePapita, user: UserClient
) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="filter-midstream")
    events = follow_to_end(user, sent.run_id)
    assert events[-1].data["code"] == "content-filtered"
    earlier = user.messages(conversation.id).items[-1].usage
    headers = {"Authorization": f"Bearer {papita.token_for(user_name(papita, sent.run_id))}"}
    again = requests.post(
        f"{service.url}/api/messages/{sent.message_id}/continue",
        json={"model": "echo"},
        headers=headers,
        timeout=5,
    ).json()
    ended = follow_to_end(user, again["runId"])
    later = ended[-1].data["usage"]
    assert later["costUsd"] > 0
    message = user.messages(conversation.id).items[-1]
    assert message.content == text_of(events) + text_of(ended)
    assert message.usage == both(earlier, later)
    assert message.usage is not None
    assert message.usage["costUsd"] is None


def user_name(papita: FakePapita, run_id: str) -> str:
    return next(name for name, runs in papita.runs.items() if run_id in runs)


def test_a_papita_that_does_not_take_it_is_told_later(
    service: Service, papita: FakePapita, user: UserClient
) -> None:
    papita.behaviour = "usage-500"
    sent = user.send(user.create_conversation().id, "hello", model="echo")
    assert follow_to_end(user, sent.run_id)[-1].type == "run.completed"
    time.sleep(0.6)
    assert not [name for name in list(papita.usage) if name.startswith(sent.run_id)]
    assert in_outbox(service) >= 1
    papita.behaviour = ""
    reported(papita, sent.run_id)
    wait_until(lambda: in_outbox(service) == 0)


def test_a_budget_that_is_used_up_is_said_in_numbers(
    service: Service, papita: FakePapita, user: UserClient, username: str
) -> None:
    papita.behaviour = "budget-exceeded"
    failed = ask(user, "echo")[-1]
    assert (failed.type, failed.data["code"]) == ("run.failed", "budget-exceeded")
    assert "$5.25 of $5.00 this month" in failed.data["message"]
    assert "1 February 2099" in failed.data["message"]
    assert failed.data["retryAfter"] > 86_400
    assert failed.data["retryable"] is False
    models = requests.get(
        service.url + "/api/models",
        headers={"Authorization": f"Bearer {papita.token_for(username)}"},
        timeout=5,
    )
    assert (models.status_code, models.json()["code"]) == (429, "budget-exceeded")


@pytest.mark.parametrize("warning", [True, False])
def test_a_warning_is_an_event_before_the_text(
    papita: FakePapita, user: UserClient, warning: bool
) -> None:
    papita.budget = {
        "limitUsd": 5,
        "spentUsd": 4.5,
        "period": "day",
        "warning": warning,
        "beginsAnewAt": "2099-01-01T00:00:00+00:00",
        "more": "than is passed on",
    }
    events = ask(user, "echo")
    kinds = [event.type for event in events]
    assert kinds[0] == "run.started"
    if not warning:
        assert "run.budget" not in kinds
        return
    assert kinds[1] == "run.budget"
    assert events[1].data == {
        "limitUsd": 5.0,
        "spentUsd": 4.5,
        "period": "day",
        "warning": True,
        "beginsAnewAt": "2099-01-01T00:00:00Z",
    }


@pytest.mark.parametrize("group", ["owner", "", "DAY"])
def test_other_groups_and_days_are_refused(
    service: Service, papita: FakePapita, username: str, group: str
) -> None:
    headers = {"Authorization": f"Bearer {papita.token_for(username)}"}
    for query in (
        {"group": group},
        {"since": "2026-01-01", "until": "2025-12-31"},
        {"since": "2020-01-01", "until": "2026-01-01"},
        {"until": "0001-01-01", "since": "0001-01-02"},
    ):
        answer = requests.get(service.url + "/api/usage", params=query, headers=headers, timeout=5)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
    first = requests.get(
        service.url + "/api/usage", params={"until": "0001-01-01"}, headers=headers, timeout=5
    )
    assert first.json()["usage"] == []


def test_a_kill_and_a_deletion_lose_nothing_that_is_owed(
    own_service: Callable[..., Service], papita: FakePapita, username: str
) -> None:
    papita.behaviour = "usage-500"
    service = own_service(ALCHAT_UNDO_MINUTES="0")
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for(username))
    done = user.send(user.create_conversation().id, "hello", model="echo")
    follow_to_end(user, done.run_id)
    deleted = user.create_conversation()
    gone = user.send(deleted.id, "hello", model="stream-500-20")
    with user.follow(gone.run_id) as follower:
        wait_until(lambda: any(event.type == "text.delta" for event in follower.wait(0.1)))
        user.delete_conversation(deleted.id)
    cut = user.send(user.create_conversation().id, "hello", model="stream-500-20")
    with user.follow(cut.run_id) as follower:
        wait_until(lambda: any(event.type == "text.delta" for event in follower.wait(0.1)))
        service.stop(signal.SIGKILL)
    assert in_outbox(service) == 2
    service.start()
    assert in_outbox(service) == 3
    papita.behaviour = ""
    (record,) = reported(papita, done.run_id)
    assert record["costUsd"] > 0
    for run_id in (gone.run_id, cut.run_id):
        (record,) = reported(papita, run_id)
        assert record["completionTokens"] is None
        assert record["costUsd"] is None
    wait_until(lambda: in_outbox(service) == 0)
    client.close()


def test_the_same_on_postgresql(
    own_service: Callable[..., Service], papita: FakePapita, postgres: Postgres, username: str
) -> None:
    with postgres.database() as url:
        service = own_service(ALCHAT_DATABASE_URL=url)
        client = AlChatClient(service.url)
        user = client.as_user(lambda: papita.token_for(username))
        conversation = user.create_conversation("what it costs")
        sent = user.send(conversation.id, "one two three", model="echo")
        usage = follow_to_end(user, sent.run_id)[-1].data["usage"]
        assert user.messages(conversation.id).items[-1].usage == usage
        for group in ("day", "model", "conversation", "credential"):
            (line,) = usage_of(service, papita, username, group=group)
            assert line["costUsd"] == usage["costUsd"] > 0
        (record,) = reported(papita, sent.run_id)
        assert record["costUsd"] == usage["costUsd"]
        cut = user.send(conversation.id, "hello", model="stream-500-20")
        with user.follow(cut.run_id) as follower:
            wait_until(lambda: any(event.type == "text.delta" for event in follower.wait(0.1)))
            service.stop(signal.SIGKILL)
        service.start()
        (record,) = reported(papita, cut.run_id)
        assert record["costUsd"] is None
        lines = usage_of(service, papita, username, group="model")
        assert [(line["key"], line["unpricedRequests"]) for line in lines] == [
            ("echo", 0),
            ("stream-500-20", 1),
        ]
        client.close()
        service.stop()
