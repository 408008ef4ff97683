"""`GET /metrics`: that it counts what happens, and holds nothing that anybody typed."""

from __future__ import annotations

import requests
from conftest import Service, ask, follow_to_end, wait_until
from fake_papita import FakePapita
from prometheus_client.parser import text_string_to_metric_families

from alchat_core.client import AlChatClient, UserClient

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(service: Service) -> Numbers:
    answer = requests.get(service.url + "/metrics", timeout=5)
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def number(found: Numbers, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def test_answers_are_counted_by_how_they_end(service: Service, user: UserClient) -> None:
    before = read(service)
    ask(user, "echo")
    ask(user, "error-401")
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-500-10")
    wait_until(lambda: user.run(sent.run_id).last_event >= 2)
    assert number(read(service), "alchat_running_answers") == 1
    user.cancel(sent.run_id)
    after = read(service)
    for outcome, code in (("completed", ""), ("failed", "credential-rejected"), ("cancelled", "")):
        labels = {"outcome": outcome, "code": code}
        name = "alchat_runs_total"
        assert number(after, name, **labels) == number(before, name, **labels) + 1
    assert number(after, "alchat_running_answers") == 0


def test_the_time_to_first_token_is_told_apart_from_the_providers(
    service: Service, user: UserClient
) -> None:
    before = read(service)
    ask(user, "slow-first-600")
    after = read(service)
    spent = {}
    for name in ("alchat_time_to_first_token_seconds", "alchat_added_time_seconds"):
        assert number(after, f"{name}_count") == number(before, f"{name}_count") + 1
        spent[name] = number(after, f"{name}_sum") - number(before, f"{name}_sum")
    whole, added = spent.values()
    assert 0 < added <= whole - 0.5


def test_followers_loans_and_commits(service: Service, user: UserClient) -> None:
    before = read(service)
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-500-10")
    with user.follow(sent.run_id) as first, user.follow(sent.run_id):
        wait_until(lambda: number(read(service), "alchat_followers") == 2)
        # Only with the first word is it certain that there was a loan.
        wait_until(lambda: any(event.type == "text.delta" for event in first.wait(0.25)))
        assert number(read(service), "alchat_leases") == 1
    wait_until(lambda: number(read(service), "alchat_followers") == 0)
    user.cancel(sent.run_id)
    follow_to_end(user, sent.run_id)
    wait_until(lambda: number(read(service), "alchat_leases") == 0)
    after = read(service)
    for request in ("exchange", "loan"):
        labels = {"request": request, "outcome": "ok"}
        name = "alchat_papita_request_seconds_count"
        assert number(after, name, **labels) == number(before, name, **labels) + 1
    name = "alchat_event_log_commit_seconds_count"
    assert number(after, name, outcome="ok") > number(before, name, outcome="ok")
    assert number(after, "alchat_event_log_waiting") == 0
    assert number(after, "process_resident_memory_bytes") > 10_000_000


def test_a_refusal_of_papita_and_one_that_is_no_answer(
    service: Service, papita: FakePapita, client: AlChatClient
) -> None:
    name = "alchat_papita_request_seconds_count"
    for behaviour, outcome in (("credential-expired", "refused"), ("vault-sealed", "failed")):
        before = read(service)
        papita.behaviour = behaviour
        ask(client.as_user(lambda name=behaviour: papita.token_for(name)), "echo")
        papita.behaviour = ""
        labels = {"request": "loan", "outcome": outcome}
        assert number(read(service), name, **labels) == number(before, name, **labels) + 1


def test_no_label_holds_what_somebody_typed(
    service: Service, user: UserClient, username: str
) -> None:
    ask(user, "no-such-model-zanzibar", "zanzibar")
    user.create_conversation("zanzibar")
    text = requests.get(service.url + "/metrics", timeout=5).text
    assert "zanzibar" not in text
    assert username not in text
    labels = {name for _, pairs in read(service) for name, _ in pairs}
    assert labels == {"outcome", "code", "request", "le"}
