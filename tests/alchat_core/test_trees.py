"""Conversations as trees: edits, further answers, the active branch, and lists put in order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
import requests
from conftest import Service, wait_until
from fake_papita import FakePapita

from alchat_core.client import UserClient


class Api:
    """The service over plain HTTP, as one user."""

    def __init__(self, service: Service, papita: FakePapita, name: str) -> None:
        self._service = service
        self._papita = papita
        self._name = name

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._papita.token_for(self._name)}"}
        url = self._service.url + path
        return requests.request(method, url, headers=headers, timeout=10, **more)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.call("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def new(self, **body: Any) -> str:
        answer = self.call("POST", "/api/conversations", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def patch(self, conversation: str, **body: Any) -> requests.Response:
        return self.call("PATCH", f"/api/conversations/{conversation}", json=body)

    def send(self, conversation: str, content: str, **more: Any) -> str:
        """Waits for the answer; the id of its message."""
        body = {"content": content, "model": "echo", **more}
        return self.wait(
            self.call("POST", f"/api/conversations/{conversation}/messages", json=body)
        )

    def again(self, message: str) -> str:
        return self.wait(self.call("POST", f"/api/messages/{message}/runs", json={"model": "echo"}))

    def wait(self, answer: requests.Response) -> str:
        assert answer.status_code == 202, answer.text
        run = f"/api/runs/{answer.json()['runId']}"
        wait_until(lambda: self.get(run)["finishedAt"] is not None, 10)
        return str(answer.json()["messageId"])

    def branch(self, conversation: str, **params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(
            f"/api/conversations/{conversation}/messages", **params
        )["messages"]
        return found

    def questions(self, conversation: str) -> list[str]:
        return [one["content"] for one in self.branch(conversation) if one["role"] == "user"]

    def listed(self, **params: Any) -> list[str]:
        return [one["id"] for one in self.get("/api/conversations", **params)["conversations"]]


@pytest.fixture
def api(service: Service, papita: FakePapita, username: str) -> Api:
    return Api(service, papita, username)


def code_of(answer: requests.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["code"])


def test_a_new_message_follows_the_active_branch(api: Api) -> None:
    chat = api.new()
    first = api.send(chat, "one")
    api.send(chat, "two")
    edited = api.send(chat, "two, edited", parentId=first)
    assert api.questions(chat) == ["one", "two, edited"]
    api.send(chat, "three")
    assert api.questions(chat) == ["one", "two, edited", "three"]
    assert api.get(f"/api/conversations/{chat}")["activeMessageId"] != edited


def test_a_branch_is_chosen_by_any_of_its_messages(api: Api) -> None:
    chat = api.new()
    first = api.send(chat, "one")
    old_end = api.send(chat, "two")
    api.send(chat, "other two", parentId=first)
    new_end = api.send(chat, "other three")
    question = api.branch(chat)[2]
    assert question["siblings"]["count"] == 2
    assert question["siblings"]["index"] == 1
    older, newer = question["siblings"]["ids"]
    assert newer == question["id"]
    assert api.patch(chat, activeMessageId=older).json()["activeMessageId"] == old_end
    assert api.questions(chat) == ["one", "two"]
    assert api.branch(chat)[2]["siblings"] == {"count": 2, "index": 0, "ids": [older, newer]}
    assert api.patch(chat, activeMessageId=newer).json()["activeMessageId"] == new_end
    # One that both branches share: the one that was last worked on.
    assert api.patch(chat, activeMessageId=first).json()["activeMessageId"] == new_end
    api.patch(chat, activeMessageId=old_end)
    api.send(chat, "three")
    assert api.questions(chat) == ["one", "two", "three"]


def test_the_first_message_can_be_edited(api: Api) -> None:
    chat = api.new()
    api.send(chat, "one")
    api.send(chat, "two")
    api.send(chat, "another one", parentId=None)
    assert api.questions(chat) == ["another one"]
    first = api.branch(chat)[0]
    assert first["parentId"] is None
    assert first["siblings"]["count"] == 2
    api.patch(chat, activeMessageId=first["siblings"]["ids"][0])
    assert api.questions(chat) == ["one", "two"]
    assert [one["siblings"]["count"] for one in api.branch(chat)] == [2, 1, 1, 1]


def test_the_same_key_tells_first_from_following(api: Api) -> None:
    chat = api.new()
    api.send(chat, "one")
    path = f"/api/conversations/{chat}/messages"
    headers = {"Idempotency-Key": "once"}
    token = {"Authorization": f"Bearer {api._papita.token_for(api._name)}"}
    url = api._service.url + path

    def post(**more: Any) -> requests.Response:
        body = {"content": "hello", "model": "echo", **more}
        return requests.post(url, json=body, headers=headers | token, timeout=10)

    sent = post(parentId=None)
    api.wait(sent)
    assert post(parentId=None).json() == sent.json()
    assert code_of(post(), 422) == "idempotency-key-reused"


def test_another_answer_is_a_sibling_and_becomes_active(api: Api) -> None:
    chat = api.new()
    answer = api.send(chat, "one")
    api.send(chat, "two")
    question = api.branch(chat)[0]["id"]
    other = api.again(question)
    branch = api.branch(chat)
    assert [one["id"] for one in branch] == [question, other]
    assert branch[1]["siblings"] == {"count": 2, "index": 1, "ids": [answer, other]}
    api.patch(chat, activeMessageId=answer)
    assert api.questions(chat) == ["one", "two"]


def test_pages_follow_the_branch(api: Api) -> None:
    chat = api.new()
    for number in range(4):
        last = api.send(chat, f"question {number}")
    fork = api.branch(chat)[3]["id"]
    api.send(chat, "elsewhere", parentId=fork)
    api.patch(chat, activeMessageId=last)
    found: list[str] = []
    before: dict[str, str] = {}
    while True:
        page = api.get(f"/api/conversations/{chat}/messages", limit=3, **before)
        found = [one["content"] for one in page["messages"] if one["role"] == "user"] + found
        if page["nextCursor"] is None:
            break
        before = {"before": page["nextCursor"]}
    assert found == [f"question {number}" for number in range(4)]


def test_what_is_not_in_the_conversation_is_refused(api: Api) -> None:
    chat, other = api.new(), api.new()
    answer = api.send(other, "elsewhere")
    for wrong in (answer, "msg_no"):
        assert code_of(api.patch(chat, activeMessageId=wrong), 422) == "invalid-input"
        body = {"content": "x", "parentId": wrong}
        refused = api.call("POST", f"/api/conversations/{chat}/messages", json=body)
        assert code_of(refused, 422) == "invalid-input"
    assert code_of(api.patch(chat, activeMessageId=None), 422) == "invalid-input"


def test_very_many_versions_are_counted_and_their_ids_capped(api: Api, service: Service) -> None:
    chat = api.new()
    answer = api.send(chat, "one")
    question = api.branch(chat)[0]["id"]
    rows = sqlite3.connect(service.database)
    with rows:
        rows.executemany(
            "INSERT INTO messages (id, conversation_id, parent_id, role, content, created_at)"
            " VALUES (?, ?, ?, 'assistant', '', 0)",
            [(f"msg_zzz{number:03}", chat, question) for number in range(300)],
        )
    rows.close()
    for chosen, index in ((answer, 0), ("msg_zzz149", 150), ("msg_zzz299", 300)):
        api.patch(chat, activeMessageId=chosen)
        siblings = api.branch(chat)[1]["siblings"]
        assert (siblings["count"], siblings["index"]) == (301, index)
        assert len(siblings["ids"]) == 100
        assert chosen in siblings["ids"]


def test_folders_and_tags_sort_a_list(api: Api) -> None:
    plain, work, both = api.new(), api.new(), api.new()
    api.patch(work, folder=" Work ")
    changed = api.patch(both, folder="Work", tags=["b", "a", " b "]).json()
    assert (changed["folder"], changed["tags"]) == ("Work", ["a", "b"])
    assert api.listed(folder="Work") == [both, work]
    assert api.listed(tag="b") == [both]
    assert api.listed(tag="b", folder="Elsewhere") == []
    assert api.listed() == [both, work, plain]
    assert api.patch(both, tags=["c"], folder=None).json()["folder"] is None
    assert api.listed(folder="Work") == [work]
    assert api.listed(tag="a") == []
    assert api.listed(tag="c") == [both]
    assert api.patch(both, tags=[]).json()["tags"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"folder": ""},
        {"folder": "x" * 101},
        {"folder": "a\0b"},
        {"tags": ["x" * 51]},
        {"tags": [""]},
        {"tags": ["a\0b"]},
        {"tags": [str(number) for number in range(21)]},
        {"tags": None},
        {"tags": "one"},
        {"pinned": None},
    ],
)
def test_what_is_too_long_or_too_many_is_refused(api: Api, body: dict[str, Any]) -> None:
    chat = api.new()
    before = api.get(f"/api/conversations/{chat}")
    assert code_of(api.patch(chat, **body), 422) == "invalid-input"
    assert api.get(f"/api/conversations/{chat}") == before


def test_a_deletion_can_be_taken_back(api: Api) -> None:
    chat = api.new()
    api.send(chat, "one")
    api.patch(chat, tags=["kept"])
    before = api.get(f"/api/conversations/{chat}")
    question, answer = api.branch(chat)
    path = f"/api/conversations/{chat}"
    assert api.call("DELETE", path).status_code == 204
    assert api.listed() == []
    for method, gone, body in (
        ("GET", path, None),
        ("DELETE", path, None),
        ("PATCH", path, {"title": "x"}),
        ("GET", f"{path}/messages", None),
        ("POST", f"{path}/messages", {"content": "x"}),
        ("POST", f"/api/messages/{question['id']}/runs", {}),
        ("GET", f"/api/runs/{answer['run']['id']}", None),
        ("GET", f"/api/runs/{answer['run']['id']}/events", None),
        ("POST", f"/api/runs/{answer['run']['id']}/cancel", None),
    ):
        assert code_of(api.call(method, gone, json=body), 404) == "not-found", gone
    for _ in range(2):
        assert api.call("POST", f"{path}/restore").json() == before
    assert api.listed() == [chat]
    assert api.branch(chat) == [question, answer]


def test_an_answer_in_what_is_deleted_stops_and_is_restored_with_it(
    api: Api, user: UserClient
) -> None:
    chat = user.create_conversation()
    sent = user.send(chat.id, "hello", model="stream-2000-10")
    with user.follow(sent.run_id) as follower:
        seen = follower.wait(10)
        while seen[-1].type != "text.delta":
            seen += follower.wait(10)
        user.delete_conversation(chat.id)
        while not follower.finished:
            seen += follower.wait(10)
    assert seen[-1].type == "run.cancelled"
    api.call("POST", f"/api/conversations/{chat.id}/restore")
    answer = api.branch(chat.id)[1]
    assert answer["run"]["state"] == "cancelled"
    assert answer["content"]


def rows_of(service: Service, conversation: str) -> int:
    """All rows that still belong to a conversation, or to nothing."""
    rows = sqlite3.connect(service.database)
    found = 0
    for table in ("messages", "runs", "conversation_tags", "search_texts"):
        query = f"SELECT count(*) FROM {table} WHERE conversation_id = ?"
        found += rows.execute(query, (conversation,)).fetchone()[0]
    found += rows.execute(
        "SELECT count(*) FROM conversations WHERE id = ?", (conversation,)
    ).fetchone()[0]
    for table in ("run_events", "idempotency_keys"):
        query = f"SELECT count(*) FROM {table} WHERE run_id NOT IN (SELECT id FROM runs)"
        found += rows.execute(query).fetchone()[0]
    rows.close()
    return int(found)


def test_without_undo_all_is_gone_at_once(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service(ALCHAT_UNDO_MINUTES="0")
    api = Api(service, papita, "ann")
    chat = api.new()
    api.send(chat, "one")
    assert rows_of(service, chat)
    api.call("DELETE", f"/api/conversations/{chat}")
    assert rows_of(service, chat) == 0
    restored = api.call("POST", f"/api/conversations/{chat}/restore")
    assert code_of(restored, 404) == "not-found"


def test_what_is_past_its_undo_is_not_restored_and_goes_at_the_next_start(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service()
    api = Api(service, papita, "ann")
    gone, kept = api.new(), api.new()
    for chat in (gone, kept):
        api.send(chat, "one")
        api.call("DELETE", f"/api/conversations/{chat}")
    rows = sqlite3.connect(service.database)
    with rows:
        rows.execute(
            "UPDATE conversations SET deleted_at = deleted_at - 601000 WHERE id = ?", (gone,)
        )
    rows.close()
    restored = api.call("POST", f"/api/conversations/{gone}/restore")
    assert code_of(restored, 404) == "not-found"
    service.stop()
    service.start()
    assert rows_of(service, gone) == 0
    assert api.call("POST", f"/api/conversations/{kept}/restore").status_code == 200


def test_a_temporary_conversation_leaves_no_trace(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service()
    api = Api(service, papita, "ann")
    stays = api.new(title="stays")
    chats = [api.new(temporary=True, title="Vermicelli") for _ in range(2)]
    for chat in chats:
        headers = {"Idempotency-Key": chat}
        token = {"Authorization": f"Bearer {papita.token_for('ann')}"}
        url = f"{service.url}/api/conversations/{chat}/messages"
        body = {"content": "tagliatelle please", "model": "echo"}
        api.wait(requests.post(url, json=body, headers=headers | token, timeout=10))
        assert api.get(f"/api/conversations/{chat}")["temporary"] is True
    assert api.listed() == [stays]
    assert api.listed(search="Vermicelli") == []
    assert api.call("DELETE", f"/api/conversations/{chats[0]}").status_code == 204
    assert rows_of(service, chats[0]) == 0
    service.stop()
    service.start()
    assert rows_of(service, chats[1]) == 0
    assert api.listed() == [stays]
    service.stop()
    for file in service.database.parent.glob("alchat.db*"):
        raw = file.read_bytes().lower()
        assert b"tagliatelle" not in raw, file
        assert b"vermicelli" not in raw, file
        assert b"stays" in raw
