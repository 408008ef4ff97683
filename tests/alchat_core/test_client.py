"""What the client makes of first messages, of files of conversations and of snapshots, and of
connections that break.
"""

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


def test_a_conversation_begins_with_its_first_message(user: UserClient) -> None:
    begun = user.begin("say it", "echo", "key-1", title="Begun", system_prompt="Be brief.")
    sent = begun.taken()
    follow_to_end(user, sent.run_id)
    made = user.conversation(begun.conversation_id)
    assert (made.title, made.system_prompt) == ("Begun", "Be brief.")
    question, answer = user.messages(made.id).items
    assert (question.id, question.content) == (sent.user_message_id, "say it")
    assert answer.id == sent.message_id
    # Sent once more, as after an answer that did not arrive, it is the same message.
    assert user.send(made.id, "say it", "echo", idempotency_key="key-1") == sent


def test_a_first_message_that_is_refused_leaves_its_conversation(user: UserClient) -> None:
    begun = user.begin("x", attachments=["att_unknown"])
    with pytest.raises(AlChatProblem) as refused:
        begun.taken()
    assert refused.value.status in (404, 422)
    assert user.messages(begun.conversation_id).items == ()
    user.send(begun.conversation_id, "y", "echo")
    with pytest.raises(Invalid):
        user.begin("x", parameters={"temperature": 9.0})


@pytest.fixture
def forgetful() -> Iterator[str]:
    """A server that answers one request on each connection and then drops it without a word, as
    one does that was restarted.
    """
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)

    def serve() -> None:
        body = b'{"id": "run_1", "state": "running"}'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(head % len(body) + body)
                connection.recv(65_536)  # the next one: not answered

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_what_may_be_sent_twice_outlives_a_connection(forgetful: str) -> None:
    client = AlChatClient(forgetful)
    try:
        for _ in range(3):
            assert client.call("GET", "/x", "token")["id"] == "run_1"
        key = {"Idempotency-Key": "one"}
        assert client.call("POST", "/x", "token", body={}, headers=key)["id"] == "run_1"
        with pytest.raises(AlChatUnreachable):
            client.call("POST", "/x", "token", body={})
    finally:
        client.close()


def test_whoever_waits_while_the_client_is_closed_is_told(papita: FakePapita) -> None:
    server = socket.create_server(("127.0.0.1", 0))  # accepts, and never answers
    client = AlChatClient(f"http://127.0.0.1:{server.getsockname()[1]}")
    found: list[BaseException] = []

    def wait() -> None:
        try:
            client.call("GET", "/x", "token")
        except AlChatUnreachable as error:
            found.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    with server, server.accept()[0]:
        client.close()
        thread.join(10)
    assert len(found) == 1


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
