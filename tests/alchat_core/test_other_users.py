"""Every route against what belongs to another user, read from the application's route table.

A new route needs a row in one of the tables below; so does a new field or parameter that names an
object by its id.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from conftest import Service, follow_to_end
from fake_papita import FakePapita
from fastapi.routing import iter_route_contexts

from alchat_core.api.app import create_app
from alchat_core.client import UserClient
from alchat_core.settings import Settings
from demo.provider.recordings import HEARING_PREFIX
from tests.recordings import recording

ABSENT = "conv_00000000000000000000000000"
TITLE = "secret plans"
QUESTION = "what nobody else may read"

# No caller is needed, and nobody's data is there.
OPEN = {
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/oauth2-redirect",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
}
# Of the caller alone.
OWN: dict[str, dict[str, Any]] = {
    "GET /api/models": {},
    "GET /api/conversations": {"params": {"search": "secret"}},
    "POST /api/conversations": {},
    "GET /api/search": {"params": {"q": "secret"}},
    "GET /api/usage": {"params": {"group": "conversation"}},
    "POST /api/imports": {
        "json": {
            "format": "al-chat-conversation/1",
            "id": "elsewhere",
            "messages": [{"id": "first", "role": "user", "content": "hello"}],
        }
    },
    "GET /api/shares": {},
    "GET /api/export": {"params": {"format": "json"}},
    "GET /api/folders": {},
    "GET /api/tags": {},
    "GET /api/assistants": {},
    "POST /api/attachments": {"params": {"name": "a.txt"}, "data": b"hello"},
    "POST /api/assistants": {"json": {"name": "helper", "prompt": "Be brief."}},
    "POST /api/transcriptions": {"files": {"file": ("speech", recording())}},
    "DELETE /api/account": {"params": {"confirm": "stranger"}},
    "GET /api/tool-servers": {},
    "POST /api/tool-servers": {"json": {"name": "tools", "url": "https://tools.example/mcp"}},
}
# Behind the id of an object.
ROWS: dict[str, dict[str, Any]] = {
    "GET /api/conversations/{conversation_id}": {},
    "PATCH /api/conversations/{conversation_id}": {"json": {"title": "mine now"}},
    "DELETE /api/conversations/{conversation_id}": {},
    "POST /api/conversations/{conversation_id}/restore": {},
    "POST /api/conversations/{conversation_id}/copy": {},
    "GET /api/conversations/{conversation_id}/messages": {},
    "GET /api/conversations/{conversation_id}/export": {},
    "GET /api/conversations/{conversation_id}/shares": {},
    "POST /api/conversations/{conversation_id}/shares": {},
    "DELETE /api/shares/{share_id}": {},
    "GET /api/shared/{share_id}": {},
    "POST /api/shared/{share_id}/copy": {},
    "POST /api/conversations/{conversation_id}/messages": {"json": {"content": "hello"}},
    "GET /api/attachments/{attachment_id}": {},
    "GET /api/attachments/{attachment_id}/content": {},
    "DELETE /api/attachments/{attachment_id}": {},
    "POST /api/messages/{message_id}/runs": {},
    "POST /api/messages/{message_id}/continue": {},
    "GET /api/messages/{message_id}/comparison": {},
    "PUT /api/messages/{message_id}/feedback": {"json": {"rating": "up"}},
    "DELETE /api/messages/{message_id}/feedback": {},
    "GET /api/assistants/{assistant_id}": {},
    "PATCH /api/assistants/{assistant_id}": {"json": {"name": "mine now"}},
    "DELETE /api/assistants/{assistant_id}": {},
    "GET /api/runs/{run_id}": {},
    "GET /api/runs/{run_id}/events": {},
    "POST /api/runs/{run_id}/cancel": {},
    "POST /api/runs/{run_id}/read": {},
    "POST /api/runs/{run_id}/tool-calls/{call_id}": {"json": {"decision": "once"}},
    "GET /api/tool-servers/{server_id}": {},
    "PATCH /api/tool-servers/{server_id}": {"json": {"name": "mine now"}},
    "DELETE /api/tool-servers/{server_id}": {},
    "GET /api/tool-servers/{server_id}/tools": {},
    "POST /api/tool-servers/{server_id}/test": {},
    "DELETE /api/tool-servers/{server_id}/approvals": {},
}
# What would have to be asked of another server first.
ELSEWHERE = {"GET /api/tool-servers/{server_id}/tools"}
# Fields and parameters of the caller's own objects that name another object: route, where, name.
REFERENCES: dict[tuple[str, str, str], str] = {
    ("POST /api/conversations/{conversation_id}/messages", "json", "parentId"): "answer_id",
    ("POST /api/conversations/{conversation_id}/messages", "json", "attachments"): "attachment_id",
    ("GET /api/conversations/{conversation_id}/messages", "params", "before"): "answer_id",
    ("PATCH /api/conversations/{conversation_id}", "json", "activeMessageId"): "answer_id",
    ("POST /api/conversations/{conversation_id}/copy", "json", "messageId"): "answer_id",
    ("POST /api/conversations", "json", "assistantId"): "assistant_id",
    ("POST /api/assistants", "json", "files"): "attachment_id",
    ("PATCH /api/assistants/{assistant_id}", "json", "files"): "attachment_id",
    ("POST /api/assistants", "json", "tools"): "server_id",
    ("PATCH /api/assistants/{assistant_id}", "json", "tools"): "server_id",
    ("POST /api/conversations", "json", "tools"): "server_id",
    ("PATCH /api/conversations/{conversation_id}", "json", "tools"): "server_id",
}
# The other fields that a route with a reference needs.
BESIDE = {
    ("POST /api/conversations/{conversation_id}/messages", "json"): {"content": "hello"},
    ("POST /api/assistants", "json"): {"name": "mine", "prompt": "Be brief."},
}


def routes() -> set[str]:
    return {
        f"{method} {context.path}"
        for context in iter_route_contexts(create_app(Settings()).routes)
        for method in set(context.methods or ()) - {"HEAD"}
    }


def references() -> set[tuple[str, str, str]]:
    """Whatever in a body or a query is called like an id."""
    described = create_app(Settings()).openapi()
    found = set()
    for path, ways in described["paths"].items():
        for method, way in ways.items():
            route = f"{method.upper()} {path}"
            for parameter in way.get("parameters", ()):
                if parameter["in"] == "query" and _names_an_object(parameter["name"]):
                    found.add((route, "params", parameter["name"]))
            body = str(way.get("requestBody", {}).get("content", {}).get("application/json", {}))
            for schema in re.findall(r"#/components/schemas/(\w+)", body):
                for name in described["components"]["schemas"][schema].get("properties", ()):
                    if _names_an_object(name):
                        found.add((route, "json", name))
    return found


def _names_an_object(name: str) -> bool:
    return name.endswith(("Id", "Ids")) or name in ("before", "attachments", "files", "tools")


def test_every_route_has_a_row() -> None:
    assert routes() == OPEN | set(OWN) | set(ROWS)
    assert all("{" in route for route in ROWS)
    assert not any("{" in route for route in OPEN | set(OWN))


def test_every_reference_has_a_row() -> None:
    assert references() == set(REFERENCES)


class Owner:
    """A user with one of each kind of object; `seen` is all that can be read of them."""

    def __init__(self, service: Service, papita: FakePapita, user: UserClient, name: str) -> None:
        self._service = service
        self._headers = {"Authorization": f"Bearer {papita.token_for(name)}"}
        conversation = user.create_conversation(TITLE)
        labelled = {"folder": "secret folder", "tags": ["secret tag"]}
        self._ask("PATCH", f"/api/conversations/{conversation.id}", labelled)
        written = {"name": TITLE, "prompt": QUESTION}
        assistant = self._ask("POST", "/api/assistants", written)
        tools = {"name": TITLE, "url": "https://tools.example/mcp"}
        server = self._ask("POST", "/api/tool-servers", tools)
        attachment = requests.post(
            f"{service.url}/api/attachments",
            params={"name": TITLE},
            data=QUESTION.encode(),
            headers=self._headers,
            timeout=10,
        ).json()
        sent = user.send(conversation.id, QUESTION, model="echo")
        follow_to_end(user, sent.run_id)
        question, answer = user.messages(conversation.id).items
        shared = f"/api/conversations/{conversation.id}/shares"
        share = self._ask("POST", shared, {"users": ["somebody"]})
        self.ids = {
            "conversation_id": conversation.id,
            "message_id": question.id,
            "answer_id": answer.id,
            "run_id": sent.run_id,
            "attachment_id": attachment["id"],
            "assistant_id": assistant["id"],
            "share_id": share["id"],
            "server_id": server["id"],
            "call_id": "call_1",
        }
        self._ask("PUT", f"/api/messages/{answer.id}/feedback", {"rating": "up"})

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = requests.request(
            method, self._service.url + path, json=body, headers=self._headers, timeout=10
        ).json()
        return found

    def call(self, route: str, **arguments: Any) -> requests.Response:
        return call(self._service, route, self.ids, self._headers, **arguments)

    def seen(self) -> dict[str, bytes]:
        return {
            route: self.call(route, **arguments).content
            for route, arguments in ROWS.items()
            if route.startswith("GET ") and route not in ELSEWHERE
        }


def call(
    service: Service, route: str, ids: dict[str, str], headers: dict[str, str], **arguments: Any
) -> requests.Response:
    method, path = route.split(" ")
    url = service.url + path.format(**ids)
    return requests.request(method, url, headers=headers, timeout=10, **arguments)


@pytest.fixture
def owner(service: Service, papita: FakePapita, user: UserClient, username: str) -> Owner:
    return Owner(service, papita, user, username)


@pytest.fixture
def stranger(papita: FakePapita) -> dict[str, str]:
    papita.api_key = f"{HEARING_PREFIX}canary"
    return {"Authorization": f"Bearer {papita.token_for('stranger')}"}


@pytest.mark.parametrize("route", ROWS)
def test_what_is_foreign_and_what_is_absent_is_the_same_404(
    service: Service, owner: Owner, stranger: dict[str, str], route: str
) -> None:
    before = owner.seen()
    assert all(before.values())
    absent = dict.fromkeys(owner.ids, ABSENT)
    answers = [call(service, route, ids, stranger, **ROWS[route]) for ids in (owner.ids, absent)]
    for answer in answers:
        assert answer.status_code == 404, answer.text
        assert answer.json()["code"] == "not-found"
    assert answers[0].content == answers[1].content
    assert answers[0].headers.keys() == answers[1].headers.keys()
    assert owner.seen() == before


@pytest.mark.parametrize("reference", REFERENCES)
def test_another_users_object_is_no_part_of_ones_own(
    service: Service,
    owner: Owner,
    stranger: dict[str, str],
    reference: tuple[str, str, str],
) -> None:
    route, where, name = reference
    mine = requests.post(f"{service.url}/api/conversations", headers=stranger, timeout=10).json()
    assistant = {"name": "mine", "prompt": "Be brief."}
    own = requests.post(
        f"{service.url}/api/assistants", headers=stranger, json=assistant, timeout=10
    ).json()
    ids = {"conversation_id": mine["id"], "assistant_id": own["id"]}
    before = owner.seen()
    answers = []
    for value in (owner.ids[REFERENCES[reference]], ABSENT):
        given = [value] if name in ("attachments", "files", "tools") else value
        sent = {**BESIDE.get((route, where), {}), name: given}
        answers.append(call(service, route, ids, stranger, **{where: sent}))
    assert answers[0].status_code in (404, 422)
    assert answers[0].content == answers[1].content
    assert owner.seen() == before


@pytest.mark.parametrize("route", OWN)
def test_lists_hold_only_what_is_ones_own(
    service: Service, owner: Owner, stranger: dict[str, str], route: str
) -> None:
    answer = call(service, route, {}, stranger, **OWN[route])
    assert answer.ok, answer.text
    for word in (*owner.ids.values(), TITLE, QUESTION, "secret folder", "secret tag"):
        assert word not in answer.text
