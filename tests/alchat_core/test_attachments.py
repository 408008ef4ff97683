"""Attached files: what is taken, who may read it, what the model gets, and when it is gone."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Service, follow_to_end, text_of
from documents import docx, docx_of, image, looping_pdf, pdf, pdf_of, png_that_claims
from fake_papita import CLIENT, FakePapita
from sqlalchemy import insert
from sqlalchemy.engine import Connection

from alchat_core.attachments import reading
from alchat_core.attachments.background import background_of
from alchat_core.attachments.excerpts import best_for, pages_of
from alchat_core.attachments.files import Files
from alchat_core.attachments.models import Attachment
from alchat_core.attachments.reading import Reader, Reading
from alchat_core.attachments.rows import attach
from alchat_core.attachments.service import AttachmentService
from alchat_core.attachments.worker import CHUNK_CHARS, chunks
from alchat_core.client import AlChatProblem, UserClient
from alchat_core.conversations.assistants import AssistantService
from alchat_core.conversations.housekeeping import Housekeeping
from alchat_core.conversations.service import ConversationService
from alchat_core.db.engine import Database
from alchat_core.db.migrate import migrate
from alchat_core.db.tables import messages
from alchat_core.errors import (
    AttachmentSpaceUsed,
    InvalidInput,
    NotFound,
    Refused,
    TooManyUploads,
    UnreadableAttachment,
    UnsupportedAttachment,
)
from alchat_core.ids import new_id
from alchat_core.runs.answering import trimmed
from alchat_core.settings import Settings
from tests.papita_core.postgres import Postgres

# What the worker makes of a file.


def read(folder: Path, data: bytes, name: str = "file", **settings: Any) -> tuple[Reading, str]:
    """What it is, and its text with pages between bars."""
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    found = asyncio.run(Reader(Settings(**settings)).read(source, target, name))
    pages = pages_of(target) if target.exists() else []
    return found, "|".join(text.strip() for _, text in pages)


@pytest.mark.parametrize(
    ("name", "data", "expected", "text"),
    [
        ("a.pdf", pdf("first", "second"), Reading("pdf", "application/pdf", 2, 11), "first|second"),
        ("a.docx", docx("Hello", "Grüße"), "docx", "Hello\nGrüße"),
        ("a.csv", b"a,b\n1,2\n", Reading("text", "text/csv", None, 7), "a,b\n1,2"),
        ("evil.html", b"<script>", Reading("text", "text/plain", None, 8), "<script>"),
        ("a.py", b"def f():\r\n\treturn 1", "text", "def f():\n\treturn 1"),
        ("a.txt", "schöne Grüße aus Köln, übermäßig".encode("cp1252"), "text", "schöne Grüße"),
        (
            "a.txt",
            ("東京は日本の首都です。" * 9).encode("shift_jis"),
            "text",
            "東京は日本の首都です",
        ),
        ("a.txt", "Grüße".encode("utf-16"), "text", "Grüße"),
        ("a.txt", "Hello there".encode("utf-16-le"), "text", "Hello there"),
        ("a.png", image("PNG"), Reading("image", "image/png", None, 0), ""),
        ("wrong.txt", image("WEBP"), Reading("image", "image/webp", None, 0), ""),
        ("a.gif", image("GIF"), Reading("image", "image/gif", None, 0), ""),
        ("a.jpg", image("JPEG"), Reading("image", "image/jpeg", None, 0), ""),
    ],
)
def test_a_file_is_what_its_bytes_say(
    tmp_path: Path, name: str, data: bytes, expected: Reading | str, text: str
) -> None:
    found, said = read(tmp_path, data, name)
    assert expected in (found, found.kind)
    assert said.startswith(text)


_LAUGHS = docx_of('<!DOCTYPE x [<!ENTITY a "ha">]><w:document xmlns:w="w">&a;</w:document>')


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (lambda: docx_of("<w/>" + " " * 31_000_000), "unpacks"),
        (_LAUGHS, "damaged"),
        (looping_pdf(), "damaged"),
        (lambda: pdf_of([b"\0" * 80_000_000], packed=True), "damaged"),
        (pdf("x")[:150], "damaged"),
        (pdf(""), "no text"),
        (lambda: b"a\n" * 3_000_000, "more text"),
        (b" \n ", "no text"),
        (png_that_claims(60_000, 60_000), "too many pixels"),
        (image()[:50], "damaged"),
        (docx("x").replace(b"word/document", b"xord/document"), "does not read this kind"),
        (bytes(range(256)) * 50, "does not read this kind"),
        (b"\x7fELF" + bytes(500), "does not read this kind"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hostile_file_is_refused_with_a_sentence(
    tmp_path: Path, data: bytes | Callable[[], bytes], word: str
) -> None:
    made = data if isinstance(data, bytes) else data()
    with pytest.raises((UnreadableAttachment, UnsupportedAttachment), match=word):
        read(tmp_path, made)


def test_a_reader_that_wants_too_much_time_or_memory_is_ended(tmp_path: Path) -> None:
    operators = b"BT /F1 12 Tf " + b"(AAAAAAAAAAAAAAAA) Tj " * 300_000 + b"ET"
    with pytest.raises(UnreadableAttachment, match="more time or memory"):
        read(tmp_path, pdf_of([operators], packed=True), alchat_attachment_seconds=1.0)
    with pytest.raises(UnreadableAttachment, match="more time or memory"):
        read(tmp_path, "🥔".encode() * 4_900_000, alchat_attachment_memory_mb=128)


@pytest.mark.parametrize(
    "script",
    [
        "import time; time.sleep(60)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "print('{')",
        "print('x' * 5_000_000)",
    ],
)
def test_whatever_becomes_of_the_worker_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(script)
    monkeypatch.setattr(reading, "WORKER", worker)
    with pytest.raises(UnreadableAttachment, match="more time or memory"):
        read(tmp_path, b"x", alchat_attachment_seconds=1.0)


def test_the_worker_has_no_secret_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os\n"
        "print(json.dumps({'kind': str(dict(os.environ)), 'mediaType': os.getcwd(),"
        " 'pages': None, 'characters': 0}))"
    )
    monkeypatch.setattr(reading, "WORKER", worker)
    monkeypatch.setenv("ALCHAT_CLIENT_SECRET", CLIENT[1])
    found, _ = read(tmp_path, b"x")
    assert CLIENT[1] not in found.kind
    assert "LANG" in found.kind
    assert found.media_type == "/"


def test_chunks_cover_the_text_and_end_between_words() -> None:
    text = " ".join(f"word{number}" for number in range(1000))
    pieces = list(chunks(text))
    assert all(len(piece) <= CHUNK_CHARS for piece in pieces)
    assert {word for piece in pieces[1:-1] for word in piece.split()[1:]} <= set(text.split())
    assert all(any(word in piece.split() for piece in pieces) for word in text.split())
    assert next(iter(chunks("a\n" * 700))).count("a") == CHUNK_CHARS / 2
    assert list(chunks(" \n " * 900)) == []


# Which excerpts fit a question.


def _file(folder: Path, name: str, data: bytes) -> tuple[Attachment, Path]:
    read(folder, data, name)
    kept = (folder / "target").rename(folder / f"{name}.text")
    return Attachment(name, "0" * 64, name, "", "pdf", len(data), None, 1, 0), kept


def test_the_excerpts_that_fit_the_question_are_found_in_every_script(tmp_path: Path) -> None:
    filling = [f"Chapter {number} speaks of the weather and the wind." for number in range(30)]
    pages = [*filling[:17], "The password of the lighthouse is Kartoffel.", *filling[17:]]
    book = _file(tmp_path, "book.pdf", pdf(*pages))
    notes = _file(tmp_path, "notes.txt", ("東京都の人口は千四百万人です。\n" * 3).encode())
    small = _file(tmp_path, "small.txt", "Die Größe der Kühe".encode())
    files = [book, notes, small]

    def first(question: str, count: int = 1) -> list[tuple[str, int | None]]:
        return [(one.attachment.name, one.page) for one in best_for(question, files, count)]

    assert first("What is the LIGHTHOUSE's password?") == [("book.pdf", 18)]
    assert first("東京都の人口") == [("notes.txt", None)]
    assert first("groesse? grosse kuhe") == [("small.txt", None)]
    # What fits nothing gets the beginnings, of each file in turn, in the order of the files.
    assert first("???", 4) == [
        ("book.pdf", 1),
        ("book.pdf", 2),
        ("notes.txt", None),
        ("small.txt", None),
    ]
    assert first('lighthouse" OR NEAR( *', 1) == [("book.pdf", 18)]


def test_a_prompt_with_parts_can_be_trimmed() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    prompt = [
        {"role": "user", "content": [{"type": "text", "text": "look"}, picture]},
        {"role": "assistant", "content": "nice"},
        {"role": "user", "content": "and now"},
    ]
    assert trimmed(prompt, keep=1) == prompt[2:]


# The rows and files, on both databases.


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            yield stack.enter_context(server.database())
        else:
            yield f"sqlite:///{tmp_path}/alchat.db"


class Shelf:
    def __init__(self, database: Database, folder: Path, **settings: Any) -> None:
        self.database = database
        self.folder = folder
        self.files = Files(folder)
        self.service = AttachmentService(Settings(**settings), database, self.files)

    async def add(self, owner: str, data: bytes, name: str = "a.txt") -> Attachment:
        async def body() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 7):
                yield data[start : start + 7]

        return await self.service.add(owner, name, body())

    def kept(self) -> set[str]:
        return {path.name for path in self.folder.rglob("*") if path.is_file()}


def play(
    url: str, folder: Path, scene: Callable[[Shelf], Awaitable[None]], **settings: Any
) -> None:
    migrate(url)

    async def run() -> None:
        database = Database(url)
        try:
            await scene(Shelf(database, folder / "files", **settings))
        finally:
            await database.close()

    asyncio.run(run())


def test_one_file_lies_there_once_and_each_owner_has_ones_own(url: str, tmp_path: Path) -> None:
    async def scene(shelf: Shelf) -> None:
        data = b"the same bytes"
        sha256 = hashlib.sha256(data).hexdigest()
        anns = await shelf.add("ann", data)
        bobs = await shelf.add("bob", data, "b.txt")
        assert shelf.kept() == {sha256, f"{sha256}.text"}
        for path in shelf.folder.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0
        with pytest.raises(NotFound):
            await shelf.service.get("bob", anns.id)
        with pytest.raises(NotFound):
            await shelf.service.delete("bob", anns.id)
        await shelf.service.delete("ann", anns.id)
        _, path = await shelf.service.content("bob", bobs.id)
        assert path.read_bytes() == data
        await shelf.service.delete("bob", bobs.id)
        assert shelf.kept() == set()
        with pytest.raises(NotFound):
            await shelf.service.content("bob", bobs.id)

    play(url, tmp_path, scene)


def test_the_space_of_a_user_is_limited(url: str, tmp_path: Path) -> None:
    async def scene(shelf: Shelf) -> None:
        first = await shelf.add("ann", b"x" * 700)
        with pytest.raises(AttachmentSpaceUsed):
            await shelf.add("ann", b"y" * 700)
        assert len(shelf.kept()) == 2
        await shelf.add("bob", b"y" * 700)
        await shelf.service.delete("ann", first.id)
        await shelf.add("ann", b"y" * 700)

    play(url, tmp_path, scene, alchat_attachment_user_bytes=1024)


def test_what_was_never_sent_and_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    async def scene(shelf: Shelf) -> None:
        await shelf.add("ann", b"never sent")
        kept = shelf.kept()
        await shelf.service.look()
        assert shelf.kept() == kept
        place, text = shelf.files.incoming()
        place.write_bytes(b"half of")
        text.write_bytes(b"x")
        lost = shelf.files.path("ab" * 32)
        lost.parent.mkdir()
        lost.write_bytes(b"no row")
        old = time.time() - 7200
        for path in shelf.folder.rglob("*"):
            os.utime(path, (old, old))
        await shelf.service.start()
        assert shelf.kept() == kept
        late = AttachmentService(
            Settings(alchat_attachment_unsent_hours=1e-9), shelf.database, shelf.files
        )
        await asyncio.sleep(0.002)
        await late.look()
        assert shelf.kept() == set()

    play(f"sqlite:///{tmp_path}/alchat.db", tmp_path, scene)


def test_housekeeping_takes_the_files_of_what_it_deletes(url: str, tmp_path: Path) -> None:
    async def scene(shelf: Shelf) -> None:
        made, other = await shelf.add("ann", b"of both"), await shelf.add("ann", b"of one")
        kept = shelf.kept()
        conversations = ConversationService(shelf.database)
        for ids, temporary in (([made.id, other.id], True), ([made.id], False)):
            chat = await conversations.create("ann", temporary=temporary)
            row = {
                "id": new_id("msg"),
                "conversation_id": chat.id,
                "role": "user",
                "content": "hello",
                "created_at": 1,
            }

            def send(to: Connection, row: dict[str, Any] = row, ids: list[str] = ids) -> None:
                to.execute(insert(messages), row)
                attach(to, "ann", row["conversation_id"], row["id"], ids)

            await shelf.database.write(send)
        with pytest.raises(InvalidInput):
            await shelf.database.write(lambda to: attach(to, "bob", chat.id, "x", [made.id]))
        keeper = Housekeeping(shelf.database, shelf.service, undo_minutes=1, temporary_minutes=1)
        assert await keeper.look(all_temporary=True) == 1
        await shelf.service.start()
        gone = kept - shelf.kept()
        assert gone == {str(other.sha256), f"{other.sha256}.text"}
        with pytest.raises(NotFound):
            await shelf.service.get("ann", other.id)
        listed = (await conversations.messages("ann", chat.id)).items
        assert [one.attachments for one in listed] == [(made,)]

    play(url, tmp_path, scene)


def test_a_file_stays_as_long_as_an_assistant_has_it(url: str, tmp_path: Path) -> None:
    async def scene(shelf: Shelf) -> None:
        made = await shelf.add("ann", b"knowledge")
        assistants = AssistantService(shelf.database, limit=9)
        values = {"kind": "assistant", "name": "n", "prompt": "p", "shared": False,
                  "model": None, "parameters": None}  # fmt: skip
        first, second = [await assistants.create("ann", "Ann", values, [made.id]) for _ in "12"]
        assert first.files == (made,)
        chat = await ConversationService(shelf.database).create("ann")
        row = {"id": new_id("msg"), "conversation_id": chat.id, "role": "user", "content": "x",
               "created_at": 1}  # fmt: skip

        def send(to: Connection) -> None:
            to.execute(insert(messages), row)
            attach(to, "ann", chat.id, row["id"], [made.id])

        await shelf.database.write(send)
        await shelf.service.forget(chat.id)
        await assistants.delete("ann", first.id)
        await shelf.service.drop_unused("ann")
        await shelf.service.start()
        assert await shelf.service.get("ann", made.id) == made
        for shared, of_others in ((False, ()), (True, (replace(made, id=""),))):
            await assistants.change("ann", "Ann", second.id, {"shared": shared})
            for who, files in (("ann", (made,)), ("bob", of_others)):
                assert files == await shelf.database.read(
                    lambda at, who=who: background_of(at, who, second.id)
                )
        await assistants.change("ann", "Ann", second.id, {}, [])
        await shelf.service.drop_unused("bob")
        assert shelf.kept()
        await shelf.service.drop_unused("ann")
        assert not shelf.kept()

    play(url, tmp_path, scene)


def test_a_user_uploads_only_a_few_files_at_once(tmp_path: Path) -> None:
    async def scene(shelf: Shelf) -> None:
        go = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b"x"
            await go.wait()

        waiting = [asyncio.create_task(shelf.service.add("ann", "a", slowly())) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(TooManyUploads):
            await shelf.add("ann", b"y")
        await shelf.add("bob", b"y")
        go.set()
        await asyncio.gather(*waiting)
        await shelf.add("ann", b"y")
        with pytest.raises(Refused, match="empty"):
            await shelf.add("ann", b"")

    play(f"sqlite:///{tmp_path}/alchat.db", tmp_path, scene)


# The service.


class Caller:
    """One user, over plain HTTP."""

    def __init__(self, service: Service, papita: FakePapita, name: str) -> None:
        self._service = service
        self._headers = {"Authorization": f"Bearer {papita.token_for(name)}"}

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return requests.request(
            method, self._service.url + path, headers=self._headers, timeout=30, **arguments
        )

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        answer = self.call("POST", "/api/attachments", params={"name": name}, data=data)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def send(self, conversation: str, content: str, *ids: str, **more: Any) -> dict[str, Any]:
        path = f"/api/conversations/{conversation}/messages"
        body = {"content": content, "model": "echo-all", "attachments": ids, **more}
        answer = self.call("POST", path, json=body)
        assert answer.status_code == 202, answer.text
        sent: dict[str, Any] = answer.json()
        return sent

    def messages(self, conversation: str) -> list[dict[str, Any]]:
        found = self.call("GET", f"/api/conversations/{conversation}/messages").json()
        listed: list[dict[str, Any]] = found["messages"]
        return listed


@pytest.fixture
def caller(service: Service, papita: FakePapita, username: str) -> Caller:
    return Caller(service, papita, username)


def on_disk(service: Service, data: bytes) -> bool:
    sha256 = hashlib.sha256(data).hexdigest()
    return (service.folder / "data" / "attachments" / sha256[:2] / sha256).exists()


def test_a_file_comes_back_as_it_went_and_runs_nothing(caller: Caller) -> None:
    data = b"<script>alert(1)</script>"
    made = caller.upload('../../etc/Grüße\n"1".html', data)
    assert made["name"] == 'Grüße "1".html'
    assert made | {"mediaType": "text/plain", "bytes": 25, "pages": None, "status": "ready"} == made
    path = f"/api/attachments/{made['id']}"
    assert caller.call("GET", path).json() == made
    answer = caller.call("GET", path + "/content")
    assert answer.content == data
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"Gr__e _1_.html\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%221%22.html"
    )
    assert caller.call("DELETE", path).status_code == 204
    for again in (path, path + "/content"):
        assert caller.call("GET", again).status_code == 404


def test_refusals_are_problems(caller: Caller, service: Service, papita: FakePapita) -> None:
    for data, name, status, code in (
        (looping_pdf(), "a.pdf", 422, "attachment-unreadable"),
        (b"", "a.txt", 422, "attachment-unreadable"),
        (bytes(100), "a.bin", 415, "attachment-unsupported"),
        (b"x", "..", 422, "invalid-input"),
        (b"x", "x" * 201, 422, "invalid-input"),
    ):
        answer = caller.call("POST", "/api/attachments", params={"name": name}, data=data)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    wire = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    wire.request(
        "POST",
        "/api/attachments?name=a",
        headers={
            "Authorization": f"Bearer {papita.token_for('big')}",
            "Content-Length": str(20 * 1024 * 1024 + 1),
        },
    )
    assert wire.getresponse().status == 413
    wire.close()
    assert caller.call("GET", "/api/conversations").ok


def test_text_goes_to_the_model_between_marks_and_stays_in_the_record(
    caller: Caller, user: UserClient
) -> None:
    made = caller.upload("notes.pdf", pdf("The cow is purple.", "Second page."))
    conversation = user.create_conversation().id
    sent = caller.send(conversation, "Which colour?", made["id"])
    said = text_of(follow_to_end(user, sent["runId"]))
    assert said.startswith('user: ----- BEGIN FILE "notes.pdf" ')
    assert "[page 1]\nThe cow is purple.\n[page 2]\nSecond page." in said
    assert said.endswith("-----\n\nWhich colour?")
    question, answer = caller.messages(conversation)
    assert question["attachments"] == [made]
    assert answer["attachments"] == []
    assert answer["sources"] == []
    # It stays in the branch: with the next question, and with another answer to the first.
    later = caller.send(conversation, "Sure?")
    assert "The cow is purple." in text_of(follow_to_end(user, later["runId"]))
    again = user.retry(question["id"], model="echo-all")
    assert text_of(follow_to_end(user, again.run_id)) == said
    # Deleted, it is named and no longer sent.
    assert caller.call("DELETE", f"/api/attachments/{made['id']}").status_code == 204
    after = user.retry(question["id"], model="echo-all")
    said = text_of(follow_to_end(user, after.run_id))
    assert '"notes.pdf" was deleted' in said
    assert "purple" not in said
    assert caller.messages(conversation)[0]["attachments"] == [{**made, "status": "deleted"}]


def test_images_go_to_the_model_as_data_and_a_refusal_of_them_is_clear(
    caller: Caller, user: UserClient
) -> None:
    data = image(size=(64, 64))
    made = caller.upload("cow.png", data)
    conversation = user.create_conversation().id
    sent = caller.send(conversation, "What is it?", made["id"])
    said = text_of(follow_to_end(user, sent["runId"]))
    length = len("data:image/png;base64,") + (len(data) + 2) // 3 * 4
    assert said == (
        f'user: [Attached image: "cow.png"]\n\nWhat is it? [data:image/png;base64, {length}]'
    )
    refused = caller.send(conversation, "And now?", model="no-images")
    last = follow_to_end(user, refused["runId"])[-1]
    assert (last.type, last.data["code"]) == ("run.failed", "images-refused")
    # Without images that model answers.
    plain = caller.send(user.create_conversation().id, "And now?", model="no-images")
    assert follow_to_end(user, plain["runId"])[-1].type == "run.completed"


def test_of_long_files_the_model_gets_excerpts_to_cite(caller: Caller, user: UserClient) -> None:
    line = "The harbour master writes of tides, ropes and weather, day by day by day.\n"
    pages = [line * 50 for _ in range(31)]
    pages[19] = line * 20 + "The treasure lies under the walnut tree.\n" + line * 20
    made = caller.upload("log.pdf", pdf(*pages))
    assert made["pages"] == 31
    conversation = user.create_conversation().id
    sent = caller.send(conversation, "Where is the treasure?", made["id"])
    events = follow_to_end(user, sent["runId"])
    assert [event.type for event in events[:2]] == ["run.started", "run.sources"]
    sources = events[1].data["sources"]
    assert [one["n"] for one in sources] == list(range(1, 13))
    mine = next(one for one in sources if one["page"] == 20)
    assert mine["attachmentId"] == made["id"]
    assert mine["name"] == "log.pdf"
    assert all(0 < len(one["excerpt"]) <= 300 for one in sources)
    said = text_of(events)
    assert f'[{mine["n"]}] "log.pdf", page 20\n' in said
    assert "under the walnut tree" in said
    assert "cite it by its number" in said
    assert len(said) < 20_000
    assert caller.messages(conversation)[-1]["sources"] == sources
    assert caller.messages(conversation)[-2]["sources"] == []


def test_the_client_of_the_portal_knows_files(user: UserClient) -> None:
    data = b"the cow is purple"
    made = user.upload("a.txt", data)
    assert (made.name, made.bytes, made.pages, made.status) == ("a.txt", len(data), None, "ready")
    assert user.attachment(made.id) == made
    assert user.attachment_content(made.id) == data
    conversation = user.create_conversation().id
    sent = user.send(conversation, "colour?", model="echo-all", attachments=[made.id])
    assert "the cow is purple" in text_of(follow_to_end(user, sent.run_id))
    question, answer = user.messages(conversation).items
    assert (question.attachments, answer.attachments, answer.sources) == ((made,), (), ())
    user.delete_attachment(made.id)
    with pytest.raises(AlChatProblem) as refused:
        user.upload("a.pdf", looping_pdf())
    assert refused.value.code == "attachment-unreadable"


def test_a_message_names_its_own_files_once_each(caller: Caller, user: UserClient) -> None:
    made = caller.upload("a.txt", b"x")
    conversation = user.create_conversation().id
    path = f"/api/conversations/{conversation}/messages"
    for ids in ([made["id"]] * 2, ["att_none"], [made["id"] + "\0"], ["x"] * 11, [7], "x"):
        answer = caller.call("POST", path, json={"content": "hello", "attachments": ids})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input"), ids
    assert caller.messages(conversation) == []


def test_files_go_with_their_conversation(
    caller: Caller, user: UserClient, service: Service
) -> None:
    only, shared = (os.urandom(9).hex().encode() for _ in range(2))
    first, second = caller.upload("only.txt", only), caller.upload("shared.txt", shared)
    temporary = user.create_conversation(temporary=True).id
    sent = caller.send(temporary, "hello", first["id"], second["id"])
    follow_to_end(user, sent["runId"])
    kept = user.create_conversation().id
    follow_to_end(user, caller.send(kept, "hello", second["id"])["runId"])
    assert on_disk(service, only)
    user.delete_conversation(temporary)
    assert not on_disk(service, only)
    assert on_disk(service, shared)
    assert caller.call("GET", f"/api/attachments/{first['id']}").status_code == 404
    assert caller.messages(kept)[0]["attachments"] == [second]
    with sqlite3.connect(service.database) as database:
        rows = database.execute("SELECT count(*) FROM attachments WHERE id = ?", (first["id"],))
        assert rows.fetchone() == (0,)
    database.close()


def test_a_file_that_is_gone_from_the_disk_fails_the_answer_with_a_sentence(
    caller: Caller, user: UserClient, service: Service
) -> None:
    data = os.urandom(9).hex().encode()
    made = caller.upload("a.txt", data)
    sha256 = hashlib.sha256(data).hexdigest()
    folder = service.folder / "data" / "attachments" / sha256[:2]
    (folder / f"{sha256}.text").unlink()
    sent = caller.send(user.create_conversation().id, "hello", made["id"])
    last = follow_to_end(user, sent["runId"])[-1]
    assert (last.type, last.data["code"]) == ("run.failed", "attachment-missing")
