"""What the client makes of files of conversations and of snapshots."""

from __future__ import annotations

import io
import json
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import follow_to_end
from fake_papita import FakePapita

from alchat_core.client import (
    AlChatClient,
    AlChatProblem,
    AlChatUnreachable,
    Invalid,
    NotFound,
    NothingImported,
    UserClient,
)


@pytest.fixture
def conversation(user: UserClient) -> str:
    made = user.create_conversation("Wömbats / 2")
    follow_to_end(user, user.send(made.id, "first question", model="echo").run_id)
    return made.id


@pytest.fixture
def reader(client: AlChatClient, papita: FakePapita, username: str) -> UserClient:
    return client.as_user(lambda: papita.token_for(f"{username}-reader"))


def test_conversations_go_into_files_and_come_back(
    user: UserClient, reader: UserClient, conversation: str, tmp_path: Path
) -> None:
    markdown = user.export_conversation(conversation)
    assert markdown.name.endswith("-Wömbats-2.md")
    assert "first question" in markdown.content.decode()
    one = user.export_conversation(conversation, "json")
    assert one.name.endswith("-Wömbats-2.json")
    whole = tmp_path / "all.zip"
    with whole.open("wb") as file:
        size = user.export_all(file)
    assert size == whole.stat().st_size
    with zipfile.ZipFile(whole) as archive:
        (line,) = json.loads(archive.read("index.json"))["conversations"]
        assert archive.read(line["file"]) == one.content
    with pytest.raises(NotFound):
        reader.export_conversation(conversation)

    # A file is sent from its beginning, wherever it was left.
    with whole.open("rb") as file:
        file.seek(5)
        report = reader.import_conversations(file)
    assert (report.imported, report.messages, report.stopped) == (1, 2, None)
    (copy,) = report.conversation_ids
    assert reader.messages(copy).items[0].content == "first question"
    with pytest.raises(NothingImported) as refused:
        reader.import_conversations(one.content)
    assert (refused.value.report.imported, refused.value.report.already_there) == (0, 1)


def test_the_report_of_an_import_names_what_it_did_not_take(user: UserClient) -> None:
    document: dict[str, Any] = {"format": "al-chat-conversation/1", "id": "c", "title": "Good"}
    document["messages"] = [
        {"id": "q", "role": "user", "content": "hello", "attachments": [{"name": "a.pdf"}]}
    ]
    bad = {**document, "id": "d", "title": "Bad", "messages": []}
    report = user.import_conversations(json.dumps([document, bad]).encode())
    assert (report.imported, report.not_taken_count) == (1, 1)
    (left,) = report.left_out
    assert ("files" in left.what, left.count) == (True, 1)
    (skipped,) = report.not_taken
    assert (skipped.name, bool(skipped.reason)) == ("Bad", True)
    for nothing in (b"", b"PK nonsense", b"nonsense"):
        with pytest.raises(NothingImported) as refused:
            user.import_conversations(nothing)
        assert isinstance(refused.value, Invalid)
        assert refused.value.report.imported == 0


def test_snapshots_are_shared_read_copied_and_revoked(
    user: UserClient, reader: UserClient, conversation: str, username: str
) -> None:
    everybody = user.share(conversation)
    named = user.share(conversation, [f"{username}-reader"])
    assert (everybody.users, named.users) == (None, (f"{username}-reader",))
    assert user.shares() == user.shares(conversation) == (named, everybody)
    assert reader.shares() == ()
    snapshot = reader.shared(named.id)
    assert (snapshot.title, snapshot.username) == ("Wömbats / 2", username)
    assert [one.role for one in snapshot.messages] == ["user", "assistant"]
    assert snapshot.messages[0].content == "first question"
    copy = reader.copy_shared(named.id)
    assert (copy.title, len(reader.messages(copy.id).items)) == ("Wömbats / 2", 2)
    user.revoke_share(named.id)
    with pytest.raises(NotFound):
        reader.shared(named.id)
    for call, about in ((reader.revoke_share, everybody.id), (reader.shares, conversation)):
        with pytest.raises(NotFound):
            call(about)
    with pytest.raises(AlChatProblem) as refused:
        user.share(user.create_conversation().id)
    assert "Send a message" in refused.value.detail


@pytest.fixture
def cut_short() -> Iterator[str]:
    """A server whose answers end in the middle."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            connection, _ = door.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nPK\x03\x04 \r\n"
                )

        serving = threading.Thread(target=serve)
        serving.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        serving.join()


def test_an_export_that_breaks_off_is_no_success(cut_short: str) -> None:
    client, file = AlChatClient(cut_short), io.BytesIO()
    with pytest.raises(AlChatUnreachable):
        client.as_user(lambda: "token").export_all(file)
    assert file.getvalue() == b"PK\x03\x04 "
    client.close()
