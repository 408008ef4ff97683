"""Imports: ChatGPT's files and our own, hostile ones, and what is told about them."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from conftest import Service
from fake_papita import FakePapita
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Connection

from alchat_core.auth import User
from alchat_core.conversations.search import Filters
from alchat_core.conversations.service import ConversationService
from alchat_core.conversations.words import mark_of
from alchat_core.db.engine import Database
from alchat_core.db.migrate import migrate
from alchat_core.db.tables import (
    attachments,
    conversations,
    import_origins,
    message_attachments,
    messages,
    share_users,
)
from alchat_core.errors import ImportRunning, NothingImported, TooManyShares
from alchat_core.exports.archive import Exports
from alchat_core.ids import now_ms
from alchat_core.imports import service as importing
from alchat_core.imports import worker
from alchat_core.imports.reading import Limits, Skipped, Stopped, conversations_in, elements
from alchat_core.imports.service import ImportService
from alchat_core.imports.trees import Node, build
from alchat_core.imports.values import Found, NotTaken
from alchat_core.imports.writing import HIDDEN_MS, Writing
from alchat_core.secret import Secret
from alchat_core.settings import Settings
from alchat_core.shares.service import ShareService
from tests.papita_core.postgres import Postgres

LIMITS = Limits(members=50, bytes=200_000, conversations=20, depth=60, chars=5000)
_numbers = itertools.count()
TEXT = "What is it?\x00\ud800"


def node(
    key: str, parent: str | None, role: str | None = None, *parts: Any, **more: Any
) -> dict[str, Any]:
    """A node of ChatGPT's `mapping`."""
    message = None
    if role is not None:
        kind = more.pop("kind", "text" if all(isinstance(p, str) for p in parts) else None)
        message = {
            "id": key,
            "author": {"role": role, "name": None, "metadata": {}},
            "create_time": more.pop("at", None),
            "content": {"content_type": kind or "multimodal_text", "parts": list(parts)},
            "metadata": more.pop("metadata", {}),
            "recipient": more.pop("recipient", "all"),
            **more,
        }
    return {"id": key, "message": message, "parent": parent, "children": []}


def chatgpt(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    number = next(_numbers)
    return {
        "title": f"Chat {number}",
        "create_time": 1700000000.25,
        "update_time": 1700000500.0,
        "mapping": {one["id"]: one for one in nodes},
        "current_node": nodes[-1]["id"] if nodes else None,
        "conversation_id": f"chatgpt-{number}",
        "is_archived": False,
        "default_model_slug": "gpt-5",
        **more,
    }


def simple(question: str = "hello", answer: str = "Hi.", **more: Any) -> dict[str, Any]:
    return chatgpt(
        node("root", None),
        node("q", "root", "user", question),
        node("a", "q", "assistant", answer, metadata={"model_slug": "gpt-5-thinking"}),
        **more,
    )


def zipped(**files: Any) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            archive.writestr(name, raw)
    return made.getvalue()


def read(raw: Any, limits: Limits = LIMITS) -> tuple[list[Found | Skipped], Counter[str]]:
    left_out: Counter[str] = Counter()
    raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return list(conversations_in(io.BytesIO(raw), limits, left_out)), left_out


def only(raw: Any) -> tuple[Found, Counter[str]]:
    (found,), left_out = read(raw)
    assert isinstance(found, Found), found
    return found, left_out


def refused(raw: Any) -> str:
    (found,), _ = read(raw)
    assert isinstance(found, Skipped), found
    return found.reason


def test_a_chat_with_tools_thoughts_and_hidden_messages_becomes_what_was_seen() -> None:
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1"}
    spoken = {"content_type": "audio_transcription", "text": "and aloud", "direction": "in"}
    sound = {"content_type": "audio_asset_pointer"}
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "Plan", "content": "First"}]}
    found, left_out = only(
        [
            chatgpt(
                node("r", None),
                node("s", "r", "system", "You are ChatGPT."),
                node("c", "s", "user", "about me", kind="user_editable_context"),
                node(
                    "h", "c", "user", "secret",
                    metadata={"is_visually_hidden_from_conversation": True},
                ),
                node("q", "h", "user", picture, TEXT, spoken, sound, at=1700000001),
                node("t", "q", "assistant", content=thoughts),
                node("u", "t", "assistant", "One moment.", metadata={"model_slug": "gpt-4o"}),
                node("v", "u", "assistant", "print(1)", kind="code", recipient="python"),
                node("w", "v", "tool", "1", kind="execution_output"),
                node("x", "w", "assistant", "A cat \ue200cite\ue202turn0\ue201.", at=1700000009.5),
                node("y", "x", "system", ""),
                is_starred=True,
                is_archived=True,
            )
        ]
    )  # fmt: skip
    assert [(one.parent, one.role, one.content) for one in found.messages] == [
        (None, "user", "[image]\n\nWhat is it?\ufffd\n\nand aloud"),
        (0, "assistant", "One moment.\n\nA cat ."),
    ]
    answer = found.messages[1]
    assert (answer.reasoning, answer.model, found.active) == ("Plan\n\nFirst", "gpt-4o", 1)
    assert found.messages[0].created_at == answer.created_at == 1700000001000
    assert (found.pinned, found.archived, found.model) == (True, True, None)
    assert left_out == {"instructions": 2, "hidden": 1, "images": 1, "recordings": 1, "tools": 2}


def test_branches_stay_and_the_current_one_is_active() -> None:
    found, _ = only(
        chatgpt(
            node("q", None, "user", "one", at=1700000000),
            node("a2", "q", "assistant", "second", at=1700000020),
            node("a1", "q", "assistant", "first", at=1700000010),
            node("edit", None, "user", "other", at=1700000030),
            node("b", "a1", "user", "two", at=1700000015),
            current_node="a1",
        )
    )
    assert [(one.parent, one.content) for one in found.messages] == [
        (None, "one"), (0, "first"), (1, "two"), (0, "second"), (None, "other"),
    ]  # fmt: skip
    assert found.active == 1


@pytest.mark.parametrize("missing", ["title", "create_time", "current_node", "conversation_id"])
def test_what_is_missing_is_made_up_for(missing: str) -> None:
    whole = simple()
    empty, absent = {**whole, missing: None}, {k: v for k, v in whole.items() if k != missing}
    for chat in (empty, absent):
        found, _ = only([chat])
        assert [one.content for one in found.messages] == ["hello", "Hi."]
        assert found.external_id
        assert found.created_at > 0


def test_what_cannot_be_taken_is_named_with_the_reason() -> None:
    deep = [node("0", None, "user", "x")]
    deep += [node(str(n), str(n - 1), "user", "x") for n in range(1, LIMITS.depth + 1)]
    assert "circle" in refused(chatgpt(node("a", "b", "user", "x"), node("b", "a", "user", "y")))
    assert "circle" in refused(chatgpt(node("r", None, "user", "x"), node("a", "a", "user", "x")))
    assert "branches" in refused(chatgpt(*deep))
    assert "no message" in refused(chatgpt())
    assert "no message" in refused(chatgpt(node("r", None, "system", "You are ChatGPT.")))
    assert "characters" in refused(simple("x" * (LIMITS.chars + 1)))
    assert "form" in refused({"name": "Ana"})
    assert "form" in refused([42])
    assert "version" in refused({"format": "al-chat-conversation/2"})
    assert "UTF-8" in refused(b'["\xff"]')
    assert "nested" in refused(b"[" * 100_000)
    assert "valid JSON" in refused(b"")
    whole = json.dumps([simple("kept"), simple()]).encode()
    first, second = read(whole[:-40])[0]
    assert isinstance(first, Found)
    assert isinstance(second, Skipped)
    assert "cut short" in second.reason
    with pytest.raises(Stopped, match="20 conversations"):
        read([simple()] * 21)


def test_an_archive_is_read_without_what_leads_out_of_it_or_is_no_conversation() -> None:
    files = {
        "conversations-000.json": [simple("one")],
        "conversations-001.json": [simple("two")],
        "chat.html": b"<html>",
        "user.json": {"email": "a@example.com"},
        "../conversations.json": [simple("out")],
        "/etc/conversations.json": [simple("out")],
        "a\\..\\conversations.json": [simple("out")],
        "file-1.dat": b"\x89PNG",
    }
    found, left_out = read(zipped(**files))
    taken = [one.messages[0].content for one in found if isinstance(one, Found)]
    assert taken == ["one", "two"]
    reasons = {one.reason for one in found if isinstance(one, Skipped)}
    assert reasons == {"Its name leads out of the archive."}
    assert left_out == {"files": 3}


def test_bombs_and_broken_archives_are_refused() -> None:
    bomb = zipped(**{"conversations.json": b" " * 5_000_000})
    assert len(bomb) < 10_000
    with pytest.raises(Stopped, match="200000 bytes"):
        read(bomb)
    with pytest.raises(Stopped, match="50 files"):
        read(zipped(**{f"{number}.txt": b"" for number in range(51)}))
    whole = zipped(**{"conversations.json": [simple()]})
    with pytest.raises(Stopped, match="damaged"):
        read(whole[:-10])
    with pytest.raises(Stopped, match="damaged"):
        read(b"PK\x03\x04nonsense")
    place = whole.index(b"conversations.json") + 25
    hurt = whole[:place] + b"\x00\xff\x00" + whole[place + 3 :]
    assert "damaged" in refused(hurt)


@given(st.lists(st.recursive(st.none() | st.integers() | st.text(max_size=5),
       lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
       max_size=3), max_leaves=8), max_size=5), st.integers(0, 4))  # fmt: skip
def test_a_list_reads_the_same_in_pieces(values: list[Any], indent: int) -> None:
    class Dribble(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            return super().read(3)

    raw = json.dumps(values, indent=indent or None, ensure_ascii=False).encode()
    assert list(elements(Dribble(raw))) == values


@given(st.lists(st.tuples(st.integers(-1, 12), st.sampled_from(["user", "assistant", None]),
       st.integers(0, 3)), min_size=1, max_size=12))  # fmt: skip
def test_a_tree_has_parents_first_and_every_message_once(rows: list[tuple[int, Any, int]]) -> None:
    nodes = [
        Node(str(place), str(parent) if parent >= 0 else None, role, f"<{place}>", created_at=at)
        for place, (parent, role, at) in enumerate(rows)
    ]
    for merge in (False, True):
        try:
            planned, active = build(nodes, "0", since=1, deepest=99, merge=merge)
        except NotTaken:
            continue
        assert all(one.parent is None or one.parent < n for n, one in enumerate(planned))
        text = "".join(one.content for one in planned)
        assert all((f"<{n}>" in text) == (row[1] is not None) for n, row in enumerate(rows))
        assert active is None or 0 <= active < len(planned)


OWN = {
    "format": "al-chat-conversation/1", "id": "o", "title": "t", "parameters": {"seed": 1},
    "tags": ["a"], "createdAt": "2026-01-01T00:00:00Z", "activeMessageId": "1",
    "messages": [
        {"id": "1", "parentId": None, "role": "assistant", "content": "x",
         "feedback": {"rating": "up"}, "attachments": [], "createdAt": "2026-01-01",
         "sources": [{"n": 1, "name": "a.pdf", "page": 2, "excerpt": "e"}],
         "toolCalls": [{"tool": "t"}]}
    ],
}  # fmt: skip
ODD = st.sampled_from(
    [None, True, -1, 2**70, 1e300, float("nan"), "", "\ud800\x00", [], [[]], {}, {"a": {"b": []}}]
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else ()
    for key, one in enumerate(value) if isinstance(value, list) else inner:
        yield (*path, key)
        yield from _places(one, (*path, key))


@given(st.data())
def test_whatever_stands_in_a_file_is_taken_or_named(data: st.DataObject) -> None:
    document = json.loads(json.dumps(data.draw(st.sampled_from([OWN, {**simple(), "id": "c"}]))))
    place = data.draw(st.sampled_from(sorted(_places(document), key=str)))
    inside = document
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = data.draw(ODD)
    out = io.BytesIO()
    task = {"owner": "ana", "limits": asdict(LIMITS)}
    worker.run(task, io.BytesIO(json.dumps(document).encode()), out)
    frames, raw = [], out.getvalue()
    while raw:
        length = int.from_bytes(raw[:4])
        frames.append(orjson.loads(raw[4 : 4 + length]))
        raw = raw[4 + length :]
    kinds = [frame["k"] for frame in frames]
    assert kinds in (["begin", "messages", "done", "end"], ["skipped", "end"])
    assert "\x00" not in str(frames)


# Against the service.


class Caller:
    def __init__(self, service: Service, token: str) -> None:
        self._url = service.url
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        headers = {**self._headers, **more.pop("headers", {})}
        answer = requests.request(method, self._url + path, headers=headers, timeout=20, **more)
        assert answer.status_code == status, answer.text
        is_json = "json" in answer.headers.get("Content-Type", "")
        return answer.json() if is_json else answer.content

    def bring(self, body: Any, status: int = 200) -> Any:
        kind = "zip" if isinstance(body, bytes) else "json"
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask(
            "POST", "/api/imports", status, data=raw,
            headers={"Content-Type": f"application/{kind}"},
        )  # fmt: skip


@pytest.fixture
def caller_for(service: Service, papita: FakePapita) -> Callable[[str], Caller]:
    return lambda name: Caller(service, papita.token_for(name))


@pytest.fixture
def caller(caller_for: Callable[[str], Caller], username: str) -> Caller:
    return caller_for(username)


def test_an_import_is_found_and_is_not_taken_twice(caller: Caller) -> None:
    chats = [simple("What do wombats eat?"), simple("Anything else?")]
    long = [node("0", None, "user", "x" * 3000)]
    long += [
        node(str(n), str(n - 1), "assistant" if n % 2 else "user", "y" * 3000)
        for n in range(1, 300)
    ]
    archive = zipped(
        **{"conversations-000.json": chats, "conversations-001.json": [chatgpt(*long), {"no": 1}]}
    )
    report = caller.bring(archive)
    assert (report["imported"], report["messages"], report["alreadyThere"]) == (3, 304, 0)
    assert report["notTakenCount"] == 1
    assert report["notTaken"][0]["name"] == "conversations-001.json"
    listed = caller.ask("GET", "/api/conversations")["conversations"]
    assert {one["id"] for one in listed} == set(report["conversationIds"])
    (hit,) = caller.ask("GET", "/api/search?q=wombat")["hits"]
    page = caller.ask("GET", f"/api/conversations/{hit['conversationId']}/messages")["messages"]
    assert [(one["role"], one["model"]) for one in page] == [
        ("user", None),
        ("assistant", "gpt-5-thinking"),
    ]
    again = caller.bring(archive, 422)
    assert again["code"] == "nothing-imported"
    assert (again["report"]["imported"], again["report"]["alreadyThere"]) == (0, 3)
    chats.append(simple("New one?"))
    assert caller.bring(chats)["imported"] == 1
    caller.ask("DELETE", f"/api/conversations/{hit['conversationId']}", 204)
    assert caller.bring(chats)["imported"] == 1


def test_nothing_imported_is_no_success_and_a_wrong_type_is_named(caller: Caller) -> None:
    for body in ([], {}, b"PK\x05\x06" + bytes(18), b"PK nonsense"):
        problem = caller.bring(body, 422)
        assert problem["code"] == "nothing-imported"
    assert "stopped" in problem["report"]
    caller.ask("POST", "/api/imports", 415, data=b"hello", headers={"Content-Type": "text/plain"})


def test_an_export_comes_back_as_it_was(
    caller: Caller, caller_for: Callable[[str], Caller], username: str
) -> None:
    branches = chatgpt(
        node("q", None, "user", "one", at=1700000000),
        node("a1", "q", "assistant", "first", at=1700000010),
        node("a2", "q", "assistant", "second ```", at=1700000020),
        node("e", None, "user", "edit", at=1700000030),
        current_node="a1",
    )
    (made,) = caller.bring(branches)["conversationIds"]
    about = {"title": "A *title* / <b>", "folder": "Work", "tags": ["a", "b"], "pinned": True,
             "systemPrompt": "Be brief.", "parameters": {"temperature": 0.5}}  # fmt: skip
    caller.ask("PATCH", f"/api/conversations/{made}", json=about)
    path = f"/api/conversations/{made}"
    answer = caller.ask("GET", f"{path}/messages")["messages"][1]
    rated = {"rating": "down", "comment": "No."}
    caller.ask("PUT", f"/api/messages/{answer['id']}/feedback", json=rated)
    first = caller.ask("GET", f"{path}/export?format=json")
    assert first["format"] == "al-chat-conversation/1"
    assert first["activeMessageId"] == answer["id"]
    assert caller.bring(first, 422)["report"]["alreadyThere"] == 1

    whole = caller.ask("GET", "/api/export")
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        (line,) = json.loads(archive.read("index.json"))["conversations"]
        assert json.loads(archive.read(line["file"])) == first
    other = caller_for(f"{username}-other")
    (copy,) = other.bring(whole)["conversationIds"]
    assert copy != made
    second = other.ask("GET", f"/api/conversations/{copy}/export?format=json")
    assert _without_ids(second) == _without_ids(first)
    markdown = caller.ask("GET", f"{path}/export").decode()
    assert markdown.startswith("# A \\*title\\* / \\<b\\>\n")
    assert "first" in markdown
    assert "second" not in markdown


def _without_ids(document: dict[str, Any]) -> dict[str, Any]:
    places = {one["id"]: place for place, one in enumerate(document["messages"])}
    messages = [
        {**one, "id": None, "parentId": places.get(one["parentId"])} for one in document["messages"]
    ]
    active = places[document["activeMessageId"]]
    return {**document, "id": None, "updatedAt": None, "messages": messages,
            "activeMessageId": active}  # fmt: skip


# On both engines, without a process.


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            yield stack.enter_context(server.database())
        else:
            yield f"sqlite:///{tmp_path}/alchat.db"


async def pieces(raw: bytes) -> AsyncIterator[bytes]:
    for place in range(0, len(raw), 1000):
        yield raw[place : place + 1000]


def test_what_was_imported_and_shared_goes_with_its_conversation(url: str, tmp_path: Path) -> None:
    migrate(url)
    ana = User("ana-id", "ana", "session", Secret("token"), 0)
    ben = User("ben-id", "Ben", "session", Secret("token"), 0)
    nodes = [node("0", None, "user", "Wombats?\x00\ud83d\ude00")]
    nodes += [node(str(n), str(n - 1), "user", f"word{n}") for n in range(1, 130)]
    archive = zipped(**{"conversations.json": [chatgpt(*nodes, title=None), simple()]})

    async def scenario() -> None:
        database = Database(url)
        settings = Settings(papita_data_dir=tmp_path, alchat_max_shares=2)
        imports = ImportService(settings, database, lambda found: found)
        report = await imports.take(ana.id, pieces(archive))
        assert (report.imported, report.messages) == (2, 132)
        made = report.conversation_ids[0]
        with pytest.raises(NothingImported) as refused:
            await imports.take(ana.id, pieces(archive))
        assert refused.value.report["alreadyThere"] == 2
        service = ConversationService(database)
        (hit,) = (await service.search(ana.id, "word77", Filters())).items
        assert (hit.conversation_id, hit.title) == (made, "Wombats?😀")
        whole = b"".join([piece async for piece in Exports(database).all(ana.id, "json")])
        assert (await imports.take(ben.id, pieces(whole))).imported == 2

        shares = ShareService(database, limit=settings.alchat_max_shares)
        share = await shares.create(ana, made, ["Ben", "Cem"])
        await shares.create(ana, made, None)
        with pytest.raises(TooManyShares):
            await shares.create(ana, made, None)
        copy = await shares.copy(ben, share.id)
        page = await service.messages(ben.id, copy, limit=500)
        assert [one.content for one in page.items][-1] == "word129"

        assert await service.delete(ana.id, made)
        await service.delete_for_good(made)
        named = select(func.count()).select_from(share_users)
        assert await database.read(lambda connection: connection.scalar(named)) == 0
        left = await database.read(lambda c: list(c.scalars(select(import_origins.c.owner))))
        assert sorted(left) == ["ana-id", "ben-id", "ben-id"]
        assert (await imports.take(ana.id, pieces(archive))).imported == 1
        await database.close()

    asyncio.run(scenario())


def test_files_sources_and_calls_of_tools_are_in_the_export(url: str) -> None:
    migrate(url)
    source = {"n": 1, "attachmentId": "att_1", "name": "a.pdf", "page": 2, "excerpt": "It says"}
    call = {"id": "c", "serverId": "srv_1", "server": "Clock", "tool": "now", "arguments": {},
            "content": "noon", "truncated": False, "isError": False, "seconds": 0.5, "at": 0,
            "round": 1, "name": "now"}  # fmt: skip
    file = {"id": "att_1", "owner": "ana", "sha256": "ab" * 32, "name": "a.pdf", "bytes": 9,
            "media_type": "application/pdf", "kind": "pdf", "pages": 3, "characters": 7,
            "sent": True, "created_at": 1}  # fmt: skip

    async def scenario() -> dict[str, Any]:
        database = Database(url)
        writing = Writing(database, "ana")
        about = {"title": "t", "created_at": 1, "last_message_at": 1, "pinned": False,
                 "archived": False}  # fmt: skip
        await writing.begin(about, "", None)
        await writing.messages([[None, "user", "Q", None, None, 1, None, None, None, ""]])
        await writing.messages([[0, "assistant", "A [1]", None, None, 1, None, None, [source], ""]])
        made = await writing.done(1)
        await writing.flush()

        def unit(connection: Connection) -> None:
            connection.execute(update(messages).where(messages.c.role == "assistant"),
                               {"tool_calls": [call]})  # fmt: skip
            asked = connection.scalar(select(messages.c.id).where(messages.c.role == "user"))
            named = {"message_id": asked, "position": 0, "attachment_id": "att_1",
                     "conversation_id": made}  # fmt: skip
            connection.execute(insert(attachments), file)
            connection.execute(insert(message_attachments), named)

        await database.write(unit)
        _, content = await Exports(database).one("ana", made, "json")
        _, markdown = await Exports(database).one("ana", made, "markdown")
        assert b"Attached: a.pdf" in markdown
        await database.close()
        found: dict[str, Any] = json.loads(content)
        return found

    document = asyncio.run(scenario())
    question, answer = document["messages"]
    assert question["attachments"] == [
        {"name": "a.pdf", "mediaType": "application/pdf", "bytes": 9, "pages": 3,
         "sha256": "ab" * 32}
    ]  # fmt: skip
    assert answer["sources"] == [{"n": 1, "name": "a.pdf", "page": 2, "excerpt": "It says"}]
    (shown,) = answer["toolCalls"]
    assert (shown["server"], shown["tool"], shown["content"]) == ("Clock", "now", "noon")
    assert "srv_1" not in str(document)
    found, left_out = only(document)
    assert found.messages[1].sources == [{**source, "attachmentId": None}]
    assert left_out == {"attachments": 1, "tools": 1}


def test_half_an_import_is_hidden_and_is_deleted_later(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/alchat.db"
    migrate(url)

    async def scenario() -> None:
        database = Database(url)
        writing = Writing(database, "ana")
        about = {"title": "half", "created_at": 1, "last_message_at": 1, "pinned": False,
                 "archived": False}  # fmt: skip
        await writing.begin(about, mark_of("ana") + "half", ("chatgpt", "x"))
        await writing.messages([[None, "user", "hi", None, None, 1, None, None, None, ""]])
        await writing.flush()
        service = ConversationService(database, undo_minutes=10)
        assert not (await service.list("ana")).items
        assert not (await service.search("ana", "half", Filters())).items
        # Housekeeping deletes what was deleted longer ago than an undo reaches back.
        due = await database.read(lambda c: c.scalar(select(conversations.c.deleted_at)))
        assert due is not None
        assert 0 < due - now_ms() <= HIDDEN_MS
        await database.close()

    asyncio.run(scenario())


def test_a_worker_at_its_limit_ends_the_import_and_not_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/alchat.db"
    migrate(url)
    first = json.dumps(simple("kept")).encode()
    hostile = b"[" + first + b"," + b'{"mapping":[' + b"[],{}," * 500_000 + b"0]}]"

    async def scenario() -> None:
        database = Database(url)

        async def told(raw: bytes, **limits: Any) -> tuple[int, str]:
            settings = Settings(papita_data_dir=tmp_path, **limits)
            try:
                report = await ImportService(settings, database, dict).take("ana", pieces(raw))
            except NothingImported as refused:
                return 0, str(refused.report["stopped"])
            return report.imported, str(report.stopped)

        monkeypatch.setattr(importing, "WORKER_MEMORY_BYTES", 64 << 20)
        imported, reason = await told(hostile)
        assert (imported, "more memory" in reason) == (1, True)
        imported, reason = await told(json.dumps(simple()).encode(), alchat_import_seconds=0.001)
        assert (imported, "took longer" in reason) == (0, True)
        # It ends without a word, as after a signal.
        monkeypatch.setattr(importing, "WORKER_MEMORY_BYTES", None)
        imported, reason = await told(json.dumps(simple()).encode())
        assert (imported, "more memory or time" in reason) == (0, True)
        await database.close()

    asyncio.run(scenario())


def test_one_import_at_a_time_for_each_user(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/alchat.db"
    migrate(url)

    async def scenario() -> None:
        database = Database(url)
        imports = ImportService(Settings(papita_data_dir=tmp_path), database, lambda found: found)
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            arrived.set()
            await go_on.wait()
            yield json.dumps(simple()).encode()

        first = asyncio.create_task(imports.take("ana", slow()))
        await arrived.wait()
        with pytest.raises(ImportRunning):
            await imports.take("ana", pieces(b"[]"))
        go_on.set()
        assert (await first).imported == 1
        assert (await imports.take("ana", pieces(json.dumps(simple()).encode()))).imported == 1
        await database.close()

    asyncio.run(scenario())
