"""What an operator sees: logs with ids and without content, and a stop that loses nothing."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from conftest import Service, follow_to_end, wait_until
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, Unavailable, UserClient
from demo.provider.scripts import script_for

UserOf = Callable[[Service, FakePapita], UserClient]


@pytest.fixture
def user_of() -> Iterator[UserOf]:
    """A user of a service of one's own."""
    made: list[AlChatClient] = []

    def user(service: Service, papita: FakePapita) -> UserClient:
        made.append(AlChatClient(service.url))
        return made[-1].as_user(lambda: papita.token_for("kim"))

    yield user
    for client in made:
        client.close()


def test_a_line_of_the_log_names_request_run_and_conversation_and_no_content(
    own_service: Callable[..., Service], papita: FakePapita, user_of: UserOf
) -> None:
    service = own_service(ALCHAT_LOG_FORMAT="json")
    user = user_of(service, papita)
    conversation = user.create_conversation("zanzibar")
    papita.request_ids.clear()
    sent = requests.post(
        f"{service.url}/api/conversations/{conversation.id}/messages",
        json={"content": "zanzibar", "model": "error-401"},
        headers={
            "Authorization": f"Bearer {papita.token_for('kim')}",
            "X-Request-Id": "from-a-test:1",
        },
        timeout=5,
    )
    assert sent.headers["x-request-id"] == "from-a-test:1"
    run_id = sent.json()["runId"]
    follow_to_end(user, run_id)
    assert papita.request_ids["kim"] == ["from-a-test:1"]
    assert service.stop() == 0

    text = service.log.read_text()
    assert "zanzibar" not in text
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))
    ids = {"requestId": "from-a-test:1", "runId": run_id, "conversationId": conversation.id}
    about_the_run = [line for line in lines if line.get("runId") == run_id]
    assert [line["message"] for line in about_the_run] == ["answer failed", "answer ended"]
    for line in about_the_run:
        assert ids.items() <= line.items()
    assert about_the_run[0]["code"] == "credential-rejected"
    assert about_the_run[1]["outcome"] == "failed"
    requests_seen = [line for line in lines if line["message"] == "request"]
    routes = {(line["method"], line.get("route"), line["status"]) for line in requests_seen}
    assert ("POST", "/api/conversations/{conversation_id}/messages", 202) in routes


@pytest.mark.parametrize("given", [None, "", "two words", "x" * 65, "für", '"quoted"'])
def test_a_request_without_a_usable_name_gets_one(service: Service, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given.encode()}
    seen = set()
    for path in ("/healthz", "/nowhere", "/api/conversations"):
        answer = requests.get(service.url + path, headers=headers, timeout=5)
        assert re.fullmatch(r"req_[0-9a-z]{26}", answer.headers["x-request-id"])
        seen.add(answer.headers["x-request-id"])
    assert len(seen) == 3


def test_by_default_the_log_is_for_people(own_service: Callable[..., Service]) -> None:
    service = own_service()
    assert service.stop() == 0
    first = service.log.read_text().splitlines()[0]
    assert re.fullmatch(r"\S+Z info alchat_core: AL-Chat listens on http://\S+", first)


def test_a_stop_lets_short_answers_end_and_takes_no_new_ones(
    own_service: Callable[..., Service], papita: FakePapita, user_of: UserOf
) -> None:
    service = own_service(ALCHAT_STOP_TIMEOUT="8")
    user = user_of(service, papita)
    idle = user.create_conversation()
    short = user.send(user.create_conversation().id, "hello", model="stream-150-10")
    long = user.send(user.create_conversation().id, "hello", model="stream-3000-10")
    with user.follow(short.run_id) as one, user.follow(long.run_id) as other:
        events = {one: one.wait(10), other: other.wait(10)}
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        ready = service.url + "/readyz"
        wait_until(lambda: requests.get(ready, timeout=5).status_code == 503)
        assert requests.get(ready, timeout=5).json()["code"] == "shutting-down"
        with pytest.raises(Unavailable) as refused:
            user.send(idle.id, "hello", model="echo")
        assert refused.value.code == "shutting-down"
        for follower, seen in events.items():
            while not follower.finished:
                seen += follower.wait(1)
    ends = [(seen[-1].type, len(seen) > 1) for seen in events.values()]
    assert ends == [("run.completed", True), ("run.interrupted", True)]
    whole = "".join(e.data["text"] for e in events[one] if e.type == "text.delta")
    assert whole == script_for("stream-150-10").text
    assert service.stop() == 0
