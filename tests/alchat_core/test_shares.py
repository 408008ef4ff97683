"""Snapshots: who reads them, what is in them, and when they are gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from conftest import Service, follow_to_end
from fake_papita import FakePapita

from alchat_core.client import UserClient

Ask = Callable[..., Any]


@pytest.fixture
def ask(service: Service, papita: FakePapita, username: str) -> Ask:
    """`ask(method, path, status)`, as the user of this test or `by` another."""

    def call(
        method: str, path: str, status: int = 200, *, by: str = username, body: Any = None
    ) -> Any:
        headers = {"Authorization": f"Bearer {papita.token_for(by)}"}
        answer = requests.request(
            method, service.url + path, headers=headers, json=body, timeout=20
        )
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    return call


@pytest.fixture
def conversation(user: UserClient, ask: Ask) -> str:
    made = user.create_conversation("Wombats")
    ask("PATCH", f"/api/conversations/{made.id}", body={"systemPrompt": "secret prompt"})
    follow_to_end(user, user.send(made.id, "first question", model="echo").run_id)
    return made.id


def test_a_snapshot_is_read_by_everyone_and_stays_as_it_was(
    user: UserClient, ask: Ask, conversation: str, username: str
) -> None:
    share = ask("POST", f"/api/conversations/{conversation}/shares", 201)
    assert (share["users"], share["messageCount"]) == (None, 2)
    follow_to_end(user, user.send(conversation, "later question", model="echo").run_id)
    ask("PATCH", f"/api/conversations/{conversation}", body={"title": "Renamed"})
    seen = ask("GET", f"/api/shared/{share['id']}", by="reader")
    assert (seen["title"], seen["username"]) == ("Wombats", username)
    assert [one["role"] for one in seen["messages"]] == ["user", "assistant"]
    assert seen["messages"][0]["content"] == "first question"
    assert {key for one in seen["messages"] for key in one} == {
        "role",
        "content",
        "model",
        "createdAt",
        "attachments",
        "sources",
    }
    assert not any(word in str(seen) for word in ("later", "secret", conversation, "Tokens"))
    listed = ask("GET", f"/api/conversations/{conversation}/shares")["shares"]
    assert listed == ask("GET", "/api/shares")["shares"] == [share]
    assert ask("GET", "/api/shares", by="reader")["shares"] == []


def test_only_those_who_are_named_read_it_and_nobody_after_it_is_revoked(
    ask: Ask, conversation: str
) -> None:
    body = {"users": [" Ana ", "ANA", "Jürgen"]}
    share = ask("POST", f"/api/conversations/{conversation}/shares", 201, body=body)
    assert share["users"] == ["ana", "jürgen"]
    path = f"/api/shared/{share['id']}"
    for name in ("ana", "jürgen"):
        ask("GET", path, by=name)
    absent = ask("GET", "/api/shared/share_0", 404, by="other")
    assert ask("GET", path, 404, by="other") == absent
    ask("POST", f"{path}/copy", 404, by="other")
    ask("DELETE", f"/api/shares/{share['id']}", 404, by="ana")
    ask("GET", path, by="ana")
    ask("DELETE", f"/api/shares/{share['id']}", 204)
    for name in ("ana", "jürgen"):
        assert ask("GET", path, 404, by=name) == absent
    assert ask("GET", "/api/shares")["shares"] == []


def test_deleting_the_conversation_revokes_and_an_undo_brings_it_back(
    ask: Ask, conversation: str
) -> None:
    share = ask("POST", f"/api/conversations/{conversation}/shares", 201)
    path = f"/api/shared/{share['id']}"
    ask("DELETE", f"/api/conversations/{conversation}", 204)
    ask("GET", path, 404, by="reader")
    ask("GET", path, 404)
    assert ask("GET", "/api/shares")["shares"] == []
    ask("POST", f"/api/conversations/{conversation}/restore")
    ask("GET", path, by="reader")


def test_a_copy_is_ones_own_and_can_be_gone_on_with(
    service: Service, papita: FakePapita, client: Any, ask: Ask, conversation: str, username: str
) -> None:
    share = ask("POST", f"/api/conversations/{conversation}/shares", 201)
    reader = f"{username}-reader"
    made = ask("POST", f"/api/shared/{share['id']}/copy", 201, by=reader)
    assert made["id"] != conversation
    assert made["title"] == "Wombats"
    ask("DELETE", f"/api/shares/{share['id']}", 204)
    theirs = client.as_user(lambda: papita.token_for(reader))
    follow_to_end(theirs, theirs.send(made["id"], "more", model="echo").run_id)
    contents = [one.content for one in theirs.messages(made["id"]).items]
    assert contents[0] == "first question"
    assert contents[2] == "more"
    assert len(contents) == 4
    hits = ask("GET", "/api/search?q=wombats", by=reader)["hits"]
    assert [hit["conversationId"] for hit in hits] == [made["id"]]
    assert len(ask("GET", f"/api/conversations/{conversation}/messages")["messages"]) == 2


def test_files_and_sources_are_named_and_no_more(user: UserClient, ask: Ask, username: str) -> None:
    document = {"format": "al-chat-conversation/1", "id": "c", "messages": [
        {"id": "q", "role": "user", "content": "What does it say?"},
        {"id": "a", "parentId": "q", "role": "assistant", "content": "Much [1].", "sources": [
            {"n": 1, "name": "log.pdf", "page": 7, "excerpt": "the treasure"}]},
    ]}  # fmt: skip
    (made,) = ask("POST", "/api/imports", body=document)["conversationIds"]
    file = user.upload("notes.txt", b"what only the owner reads")
    sent = user.send(made, "And this?", model="no-usage", attachments=[file.id])
    follow_to_end(user, sent.run_id)
    share = ask("POST", f"/api/conversations/{made}/shares", 201)
    seen = ask("GET", f"/api/shared/{share['id']}", by="reader")
    assert [one["attachments"] for one in seen["messages"]] == [
        [], [], [{"name": "notes.txt", "mediaType": "text/plain", "pages": None}], [],
    ]  # fmt: skip
    assert [one["sources"] for one in seen["messages"]] == [
        [], [{"n": 1, "name": "log.pdf", "page": 7}], [], [],
    ]  # fmt: skip
    assert not any(word in str(seen) for word in (file.id, "treasure", "only the owner"))
    for path in ("", "/content"):
        ask("GET", f"/api/attachments/{file.id}{path}", 404, by="reader")

    reader = f"{username}-reader"
    copy = ask("POST", f"/api/shared/{share['id']}/copy", 201, by=reader)["id"]
    page = ask("GET", f"/api/conversations/{copy}/messages", by=reader)["messages"]
    source = {"n": 1, "attachmentId": None, "name": "log.pdf", "page": 7, "excerpt": ""}
    assert [one["sources"] for one in page] == [[], [source], [], []]
    assert not any(one["attachments"] for one in page)


def test_what_cannot_be_shared_is_refused(ask: Ask, user: UserClient) -> None:
    empty = ask("POST", "/api/conversations", 201)["id"]
    assert "Send a message" in ask("POST", f"/api/conversations/{empty}/shares", 422)["detail"]
    fleeting = ask("POST", "/api/conversations", 201, body={"temporary": True})["id"]
    follow_to_end(user, user.send(fleeting, "hello", model="echo").run_id)
    problem = ask("POST", f"/api/conversations/{fleeting}/shares", 422)
    assert "temporary" in problem["detail"]
    for users in ([], ["\u3000"], ["x\x00"], ["ﷺ" * 100]):
        body = {"users": users}
        ask("POST", f"/api/conversations/{empty}/shares", 422, body=body)
