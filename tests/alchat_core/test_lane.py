"""The short way of a new conversation, of sending and of following gives the answers of the
described way.

A query that no route knows makes a request take the described one.
"""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from conftest import Service, ask, follow_to_end
from fake_papita import FakePapita
from starlette.types import Message, Receive, Scope, Send

from alchat_core.api.lane import Lane
from alchat_core.client import UserClient

JSON = "application/json"
MESSAGE: dict[str, Any] = {"content": "hello", "model": "echo"}
# What is sent to a conversation with no answer: the body, its type, and more headers.
SENDS: dict[str, tuple[bytes, str, dict[str, str]]] = {
    "a message": (json.dumps(MESSAGE).encode(), JSON, {}),
    "a null parent": (json.dumps({**MESSAGE, "parentId": None}).encode(), JSON, {}),
    "an unknown parent": (json.dumps({**MESSAGE, "parentId": "msg_x"}).encode(), JSON, {}),
    "an unknown file": (json.dumps({**MESSAGE, "attachments": ["att_x"]}).encode(), JSON, {}),
    "a parameter": (json.dumps({**MESSAGE, "parameters": {"seed": 7}}).encode(), JSON, {}),
    "a wrong parameter": (json.dumps({**MESSAGE, "parameters": {"seed": "x"}}).encode(), JSON, {}),
    "an unknown field": (json.dumps({**MESSAGE, "colour": "red"}).encode(), JSON, {}),
    "a blank message": (b'{"content": "  "}', JSON, {}),
    "a null character": (b'{"content": "a\\u0000"}', JSON, {}),
    "half a character": (b'{"content": "a\\ud800"}', JSON, {}),
    "a long message": (json.dumps({"content": "x" * 60_000}).encode(), JSON, {}),
    "a large body": (json.dumps({"content": "x" * 120_000}).encode(), JSON, {}),
    "no object": (b"[]", JSON, {}),
    "no JSON": (b"{", JSON, {}),
    "nothing": (b"", JSON, {}),
    "not a number": (b'{"content": NaN}', JSON, {}),
    "a type with a charset": (json.dumps(MESSAGE).encode(), JSON + "; charset=utf-8", {}),
    "another type": (json.dumps(MESSAGE).encode(), "text/plain", {}),
    "a key": (json.dumps(MESSAGE).encode(), JSON, {"Idempotency-Key": "first try"}),
    "a key in one word": (json.dumps(MESSAGE).encode(), JSON, {"Idempotency-Key": "first-try"}),
    "a long key": (json.dumps(MESSAGE).encode(), JSON, {"Idempotency-Key": "k" * 201}),
    "an empty key": (json.dumps(MESSAGE).encode(), JSON, {"Idempotency-Key": ""}),
    "no token": (json.dumps(MESSAGE).encode(), JSON, {"Authorization": ""}),
    "a wrong token": (json.dumps(MESSAGE).encode(), JSON, {"Authorization": "Bearer e.e.e"}),
}
# What a new conversation is made of.
CREATES: dict[str, tuple[bytes, str, dict[str, str]]] = {
    "nothing said": (b"{}", JSON, {}),
    "all of it": (
        json.dumps(
            {
                "title": "Potatoes",
                "temporary": True,
                "systemPrompt": "Be brief.",
                "parameters": {"seed": 7},
                "tools": [],
            }
        ).encode(),
        JSON,
        {},
    ),
    "a wrong parameter": (b'{"parameters": {"seed": "x"}}', JSON, {}),
    "an unknown assistant": (b'{"assistantId": "asst_x"}', JSON, {}),
    "an unknown tool server": (b'{"tools": ["tool_x"]}', JSON, {}),
    "an unknown field": (b'{"colour": "red"}', JSON, {}),
    "a null character": (b'{"title": "a\\u0000"}', JSON, {}),
    "no body": (b"", JSON, {}),
    "null": (b"null", JSON, {}),
    "no JSON": (b"{", JSON, {}),
    "another type": (b"{}", "text/plain", {}),
    "no token": (b"{}", JSON, {"Authorization": ""}),
}
FOLLOWS: dict[str, tuple[str, dict[str, str]]] = {
    "from the beginning": ("", {}),
    "from the first": ("after=1", {}),
    "from the end": ("after=99", {}),
    "from beyond": ("after=99999999999", {}),
    "from before": ("after=-1", {}),
    "from nowhere": ("after=x", {}),
    "twice": ("after=1&after=2", {}),
    "resumed": ("", {"Last-Event-ID": "1"}),
    "resumed at the end": ("after=1", {"Last-Event-ID": "99"}),
    "resumed nowhere": ("", {"Last-Event-ID": "x"}),
    "resumed with nothing": ("", {"Last-Event-ID": ""}),
    "no token": ("", {"Authorization": ""}),
}


def told(answer: requests.Response) -> tuple[Any, ...]:
    """What an answer says, without the ids and moments that are made anew each time."""
    headers = {
        name.lower(): value
        for name, value in answer.headers.items()
        if name.lower() not in ("date", "x-request-id", "location", "content-length")
    }
    if answer.status_code == 202:
        return answer.status_code, headers, sorted(answer.json())
    return answer.status_code, headers, answer.content


@pytest.fixture
def token(papita: FakePapita, username: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {papita.token_for(username)}"}


@pytest.mark.parametrize("case", SENDS)
def test_a_message_is_answered_the_same_on_both_ways(
    service: Service, user: UserClient, token: dict[str, str], case: str
) -> None:
    body, kind, more = SENDS[case]
    answers = []
    for query in ("", "?way=described"):
        conversation = user.create_conversation()
        url = f"{service.url}/api/conversations/{conversation.id}/messages{query}"
        headers = {**token, "Content-Type": kind, **more}
        if key := headers.get("Idempotency-Key"):
            headers["Idempotency-Key"] = key.replace("first", query.strip("?=") or "first")
        answer = requests.post(url, data=body, headers=headers, timeout=10)
        answers.append(told(answer))
        assert "x-request-id" in answer.headers
        if answer.status_code == 202:
            events = follow_to_end(user, answer.json()["runId"])
            assert events[-1].type == "run.completed"
            again = requests.post(url, data=body, headers=headers, timeout=10)
            assert (again.json() == answer.json()) is bool(key)
            follow_to_end(user, again.json()["runId"])
            shown = user.messages(conversation.id).items
            assert [one.role for one in shown[:2]] == ["user", "assistant"]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("case", CREATES)
def test_a_conversation_is_made_the_same_on_both_ways(
    service: Service, token: dict[str, str], case: str
) -> None:
    body, kind, more = CREATES[case]
    answers = []
    for query in ("", "?way=described"):
        url = f"{service.url}/api/conversations{query}"
        headers = {**token, "Content-Type": kind, **more}
        answer = requests.post(url, data=body, headers=headers, timeout=10)
        said = told(answer)
        if answer.status_code == 201:
            made = answer.json()
            assert answer.headers["location"] == f"/api/conversations/{made['id']}"
            again = requests.get(
                service.url + answer.headers["location"], headers=token, timeout=10
            )
            assert again.json() == made
            new = {"id", "createdAt", "updatedAt", "lastMessageAt"}
            said = (*said[:2], {name: value for name, value in made.items() if name not in new})
        answers.append(said)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("case", FOLLOWS)
def test_events_are_the_same_on_both_ways(
    service: Service, user: UserClient, token: dict[str, str], case: str
) -> None:
    query, more = FOLLOWS[case]
    run_id = user.send(user.create_conversation().id, "hello", model="echo").run_id
    follow_to_end(user, run_id)
    url = f"{service.url}/api/runs/{run_id}/events?{query}"
    answers = [
        told(requests.get(url + way, headers={**token, **more}, timeout=10))
        for way in ("", "&way=described")
    ]
    assert answers[0] == answers[1]


def test_what_is_not_there_is_not_there_on_both_ways(
    service: Service, user: UserClient, token: dict[str, str]
) -> None:
    ask(user, "echo")
    for query in ("", "?way=described"):
        url = f"{service.url}/api/conversations/conv_x/messages{query}"
        refused = requests.post(url, json=MESSAGE, headers=token, timeout=10)
        assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
        refused = requests.get(
            f"{service.url}/api/runs/run_x/events{query}", headers=token, timeout=10
        )
        assert (refused.status_code, refused.json()["code"]) == (404, "not-found")


class Stop(Exception):
    """The services were asked for, so that the request is on the short way."""


class Services:
    @property
    def services(self) -> None:
        raise Stop


@pytest.mark.parametrize(
    ("method", "path", "query", "parts", "short"),
    [
        ("POST", "/api/conversations/conv_1/messages", b"", [b'{"content":', b'"hello"}'], True),
        ("POST", "/api/conversations/conv_1/messages", b"", [b'{"content":', b'"hello"'], False),
        ("POST", "/api/conversations/conv_1/messages", b"a=b", [b'{"content":"hello"}'], False),
        ("POST", "/api/conversations/conv 1/messages", b"", [b'{"content":"hello"}'], False),
        ("POST", "/api/conversations", b"", [b"{", b"}"], True),
        ("POST", "/api/conversations", b"", [b""], False),
        ("POST", "/api/conversations", b"a=b", [b"{}"], False),
        ("GET", "/api/conversations", b"", [b""], False),
        ("GET", "/api/runs/run_1/events", b"", [b""], True),
        ("GET", "/api/runs/run_1/events", b"after=3", [b""], True),
        ("GET", "/api/runs/run_1/events", b"after=-3", [b""], False),
        ("GET", "/api/runs/run_1", b"", [b""], False),
    ],
)
def test_which_requests_take_the_short_way_and_that_others_lose_nothing(
    method: str, path: str, query: bytes, parts: list[bytes], short: bool
) -> None:
    waiting = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    sent = list(waiting)
    received: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def described(_scope: Scope, receive: Receive, _send: Send) -> None:
        received.extend([await receive() for _ in sent])

    async def send(_message: Message) -> None:
        pass

    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(b"content-type", b"application/json")],
        "app": SimpleNamespace(state=Services()),
    }
    if short:
        with pytest.raises(Stop):
            asyncio.run(Lane(described)(scope, receive, send))
        assert not received
    else:
        asyncio.run(Lane(described)(scope, receive, send))
        assert received == sent


def test_a_follower_from_beyond_the_end_is_let_go_at_the_end(
    service: Service, user: UserClient, token: dict[str, str]
) -> None:
    sent = user.send(user.create_conversation().id, "hello", model="stream-20-20")
    url = f"{service.url}/api/runs/{sent.run_id}/events?after=9999"
    answer = requests.get(url, headers=token, timeout=30)
    # No sign of life in it: it did not wait for one.
    assert (answer.status_code, answer.content) == (200, b"")
    assert user.run(sent.run_id).state == "completed"
