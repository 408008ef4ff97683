"""The end of an account: nothing of it stays, whoever asks and whenever AL-Chat hears of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Service, follow_to_end, wait_until
from fake_papita import FakePapita
from sqlalchemy import create_engine, select, text

from alchat_core.client import AlChatClient, Invalid, UserClient
from alchat_core.db.tables import metadata
from tests.papita_core.postgres import Postgres

WORD = "quillfeather"


@pytest.fixture(params=["sqlite", "postgresql"])
def either(
    request: pytest.FixtureRequest, own_service: Callable[..., Service]
) -> Iterator[tuple[Service, str]]:
    """A service of one's own, and the URL of its database."""
    with ExitStack() as stack:
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            url = stack.enter_context(server.database())
            service = own_service(ALCHAT_DATABASE_URL=url)
        else:
            service = own_service()
            url = f"sqlite:///{service.database}"
        yield service, url
        service.stop()


def as_user(service: Service, papita: FakePapita, name: str) -> UserClient:
    return AlChatClient(service.url).as_user(lambda: papita.token_for(name))


def rows(url: str, owner: str) -> dict[str, int]:
    """How many rows of which tables name the owner, and of those that hang on such rows all."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: len(
                connection.execute(select(text("1")).select_from(table)).all()
                if "owner" not in table.c
                else connection.execute(
                    select(text("1")).select_from(table).where(table.c.owner == owner)
                ).all()
            )
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return {name: count for name, count in found.items() if count}


def fill(service: Service, papita: FakePapita, name: str) -> UserClient:
    """A user who has something in every table; the word is in all that can be typed."""
    user = as_user(service, papita, name)

    def ask(method: str, path: str, body: Any, by: str = name) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {papita.token_for(by)}"}
        answer = requests.request(
            method, service.url + path, json=body, headers=headers, timeout=20
        )
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    file = user.upload(f"{WORD}.txt", f"What the {WORD} wrote.".encode())
    kept = user.upload(f"{WORD}-2.txt", f"More of the {WORD}.".encode())
    conversation = user.create_conversation(f"About the {WORD}")
    sent = user.send(
        conversation.id,
        f"Who is the {WORD}?",
        model="echo",
        attachments=[file.id],
        idempotency_key=f"key-of-{name}",
    )
    follow_to_end(user, sent.run_id)
    path = f"/api/conversations/{conversation.id}"
    ask("PATCH", path, {"folder": WORD, "tags": [WORD]})
    ask("PUT", f"/api/messages/{sent.message_id}/feedback", {"rating": "up", "comment": WORD})
    ask("POST", f"{path}/shares", {"users": ["somebody"]})
    ask("POST", "/api/assistants", {"name": WORD, "prompt": WORD, "files": [kept.id]})
    server = ask("POST", "/api/tool-servers", {"name": WORD, "url": "https://tools.example/mcp"})
    assert server["id"]
    ask(
        "POST",
        "/api/imports",
        {
            "format": "al-chat-conversation/1",
            "id": "elsewhere",
            "messages": [{"id": "first", "role": "user", "content": WORD}],
        },
    )
    hidden = user.create_conversation(f"Deleted, with an undo: {WORD}")
    user.delete_conversation(hidden.id)
    theirs = as_user(service, papita, "other").create_conversation("Shared with a name")
    follow_to_end(
        as_user(service, papita, "other"),
        as_user(service, papita, "other").send(theirs.id, "Look at this", model="echo").run_id,
    )
    ask("POST", f"/api/conversations/{theirs.id}/shares", {"users": [name]}, "other")
    return user


def test_nothing_of_a_deleted_account_stays(
    either: tuple[Service, str], papita: FakePapita
) -> None:
    service, url = either
    user = fill(service, papita, "ana")
    # What Papita is still to hear goes by itself.
    wait_until(lambda: "usage_outbox" not in rows(url, "user-ana"))
    before = rows(url, "user-ana")
    assert before.keys() >= {
        *("conversations", "runs", "shares", "assistants", "tool_servers", "attachments"),
        *("idempotency_keys", "import_origins", "search_texts", "feedback", "share_users"),
    }
    theirs = rows(url, "user-other")
    files = [path for path in (service.folder / "data").rglob("*") if path.is_file()]
    assert any(WORD.encode() in path.read_bytes() for path in files)
    user.delete_account("Ana")
    left = rows(url, "user-ana")
    engine = create_engine(url)
    owned = {table.name for table in metadata.sorted_tables if "owner" in table.c}
    assert not owned & left.keys()
    # What is left hangs on what another user has, who shares it with nobody any more.
    assert rows(url, "user-other") == {
        name: count for name, count in {**theirs, **left}.items() if name in left or name in owned
    }
    assert "share_users" not in left
    assert "feedback" not in left
    with engine.connect() as connection:
        words = connection.execute(text("SELECT content FROM messages")).scalars().all()
    engine.dispose()
    assert len(words) == 2
    assert WORD not in " ".join(words)
    if url.startswith("sqlite"):
        for path in (service.folder / "data").rglob("*"):
            if path.is_file():
                assert WORD.encode() not in path.read_bytes(), path
    assert as_user(service, papita, "other").conversations().items
    user.delete_account("ana")  # there is nothing to delete any more, and that is no error


def test_answers_that_are_being_written_stop(
    service: Service, papita: FakePapita, user: UserClient, username: str
) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "Tell me a long story.", model="slow")
    with user.follow(sent.run_id) as follower:
        wait_until(lambda: bool(follower.wait(0.25)))
        user.delete_account(username)
        wait_until(lambda: bool(follower.wait(0.25)) or follower.finished)
        wait_until(lambda: follower.finished or not follower.wait(0.1))
    with closing(sqlite3.connect(service.database)) as database:
        for table in ("conversations", "runs"):
            count = database.execute(
                f"SELECT count(*) FROM {table} WHERE owner = ?", (f"user-{username}",)
            ).fetchone()
            assert count == (0,)


@pytest.mark.parametrize("confirm", [None, "", "somebody else", "user"])
def test_without_the_user_name_nothing_is_deleted(
    service: Service, papita: FakePapita, user: UserClient, username: str, confirm: str | None
) -> None:
    kept = user.create_conversation("stays")
    answer = requests.delete(
        f"{service.url}/api/account",
        params={} if confirm is None else {"confirm": confirm},
        headers={"Authorization": f"Bearer {papita.token_for(username)}"},
        timeout=20,
    )
    assert answer.status_code == 422
    with pytest.raises(Invalid):
        user.delete_account("nobody")
    assert [one.id for one in user.conversations().items] == [kept.id]
    stranger = requests.delete(f"{service.url}/api/account", params={"confirm": "x"}, timeout=20)
    assert stranger.status_code == 401


def test_who_was_deleted_in_papita_is_deleted_here_and_confirmed_when_that_is_final(
    own_service: Callable[..., Service], papita: FakePapita, tmp_path: Path
) -> None:
    service = own_service(ALCHAT_ERASURE_SECONDS="0.1")
    user, kept = as_user(service, papita, "ana"), as_user(service, papita, "ben")
    user.create_conversation("first")
    kept.create_conversation("stays")
    papita.erasures["user-ana"] = ("ana", False)
    wait_until(lambda: not user.conversations().items)
    assert papita.confirmed == []
    user.create_conversation("brought by a token that was still in use")
    wait_until(lambda: not user.conversations().items)
    service.stop()
    # While AL-Chat does not run it can be told nothing; it asks when it starts.
    papita.erasures["user-ben"] = ("ben", True)
    papita.erasures["user-ana"] = ("ana", True)
    service.start()
    wait_until(lambda: sorted(papita.confirmed) == ["user-ana", "user-ben"])
    assert papita.erasures == {}
    with closing(sqlite3.connect(service.database)) as database:
        assert database.execute("SELECT count(*) FROM conversations").fetchone() == (0,)


def test_a_papita_that_does_not_know_the_question_does_no_harm(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    papita.erasures_known = False
    service = own_service(ALCHAT_ERASURE_SECONDS="0.05")
    user = as_user(service, papita, "ana")
    user.create_conversation("stays")
    words = b"does not say which users were deleted"
    wait_until(lambda: words in service.log.read_bytes())
    papita.erasures_known = True
    papita.erasures["user-ana"] = ("ana", True)
    wait_until(lambda: papita.confirmed == ["user-ana"])
    assert service.log.read_bytes().count(words) == 1
