"""Search over titles and messages, on both engines, and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from alembic import command
from alembic.config import Config
from conftest import Service, follow_to_end
from fake_papita import FakePapita
from sqlalchemy import create_engine, insert, text

from alchat_core.attachments.files import Files
from alchat_core.attachments.service import AttachmentService
from alchat_core.client import UserClient
from alchat_core.conversations import search
from alchat_core.conversations.housekeeping import Housekeeping
from alchat_core.conversations.search import Entry, Filters, Hit, put
from alchat_core.conversations.service import ConversationService
from alchat_core.conversations.words import Query, mark_of, snippet
from alchat_core.db.engine import Database
from alchat_core.db.migrate import SCRIPTS, migrate
from alchat_core.db.tables import messages
from alchat_core.ids import new_id
from alchat_core.settings import Settings
from tests.papita_core.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    with ExitStack() as stack:
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            yield stack.enter_context(server.database())
        else:
            yield f"sqlite:///{tmp_path}/alchat.db"


class Archive:
    """Conversations of several people in one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.service = ConversationService(database, undo_minutes=1)

    async def say(
        self, owner: str, *texts: str, title: str | None = None, temporary: bool = False
    ) -> str:
        """A conversation of these messages, in turns."""
        made = await self.service.create(owner, title=title, temporary=temporary)
        for number, content in enumerate(texts):
            row = {
                "id": new_id("msg"),
                "conversation_id": made.id,
                "parent_id": None,
                "role": ("user", "assistant")[number % 2],
                "content": content,
                "model": ("", "m")[number % 2] or None,
                "created_at": 1000 * number,
            }
            entry = Entry(made.id, row["id"], content)
            await self.database.write(
                lambda c, row=row, entry=entry: (c.execute(insert(messages), row), put(c, [entry]))
            )
        return made.id

    async def hits(self, words: str, owner: str = "ann", **filters: Any) -> list[Hit]:
        found = await self.service.search(owner, words, Filters(**filters))
        return list(found.items)

    async def found(self, words: str, owner: str = "ann", **filters: Any) -> list[str]:
        """The marked parts of each hit."""
        return [
            "|".join(str(part["text"]) for part in hit.snippet if part["hit"])
            for hit in await self.hits(words, owner, **filters)
        ]


def play(url: str, scene: Callable[[Archive], Awaitable[None]]) -> None:
    migrate(url)

    async def run() -> None:
        database = Database(url)
        try:
            await scene(Archive(database))
        finally:
            await database.close()

    asyncio.run(run())


def test_words_of_every_script_are_found(url: str) -> None:
    async def scene(archive: Archive) -> None:
        await archive.say("ann", "Die Größe von Ærø, naïve Café")
        await archive.say("ann", "今日は東京都に行きました", "ภาษาไทยไม่มีช่องว่าง")
        await archive.say("ann", "한국어를 배웁니다", "नमस्ते दुनिया", "Привет, Ёлка")
        for words, marked in {
            "grosse": "Größe",
            "GRÖẞE": "Größe",
            "cafe aero": "Ærø|Café",
            "naïve": "naïve",
            "nai": "naïve",
            "東京": "東京",
            "東京都": "東京都",
            "都": "都",
            "京都に行": "京都に行",
            "ไทย": "ไทย",
            "한국": "한국",
            "नमस्ते": "नमस्ते",
            "елка прив": "Привет|Ёлка",
        }.items():
            assert await archive.found(words) == [marked], words
        for words in ("ven", "größ von", "東都", "京", "くく", "afe"):
            hits = await archive.found(words)
            assert hits == (["京"] if words == "京" else []), words

    play(url, scene)


@pytest.mark.parametrize(
    "query",
    [
        '"', "'", '" OR 1=1 --', "a AND", "NOT", "NEAR(a, 2)", "*", "a*b", "^x", "col:x", "(", ")",
        "words : x", "{a b} : c", "-x", "a:*", "a & b", "!x", "a <-> b", "\\", "%", "_", "\0", "😀",
        "\ud83d", "a" * 200, "a " * 100, "'; DROP TABLE messages",
    ],
)  # fmt: skip
def test_no_sign_has_a_meaning_in_a_query(tmp_path: Path, query: str) -> None:
    async def scene(archive: Archive) -> None:
        await archive.say("ann", "or and not near x words col")
        await archive.found(query)
        await archive.service.list("ann", search=query)
        assert await archive.found("near") == ["near"]

    play(f"sqlite:///{tmp_path}/alchat.db", scene)


def test_hostile_queries_on_both_engines(url: str) -> None:
    async def scene(archive: Archive) -> None:
        await archive.say("ann", "or and not near x words col")
        for query in ('"', "' | 'x", "x:*", "a & !b", "\\'", "x <-> y", "\0", "\ud83d"):
            await archive.found(query)
        assert await archive.found("NOT x") == ["not|x"]
        assert await archive.found("") == []
        assert (await archive.service.list("ann", search="?!")).items == ()

    play(url, scene)


def test_filters_and_pages(url: str) -> None:
    async def scene(archive: Archive) -> None:
        first = await archive.say("ann", "potato one", "potato two", "potato three")
        second = await archive.say("ann", title="potato title")
        await archive.service.change("ann", first, {"folder": "Work", "tags": ["a", "b"]})
        await archive.service.change("ann", second, {"archived": True})
        assert len(await archive.hits("potato")) == 4
        assert len(await archive.hits("potato", folder="Work")) == 3
        assert len(await archive.hits("potato", tag="b")) == 3
        assert await archive.hits("potato", tag="c") == []
        assert [one.conversation_id for one in await archive.hits("potato", archived=True)] == [
            second
        ]
        assert len(await archive.hits("potato", archived=False)) == 3
        assert len(await archive.hits("potato", role="user")) == 2
        assert len(await archive.hits("potato", model="m")) == 1
        moments = [one.created_at for one in await archive.hits("potato", since=1000, until=2000)]
        assert moments == [1000]
        seen: list[Hit] = []
        cursor = None
        while True:
            page = await archive.service.search("ann", "potato", Filters(), cursor=cursor, limit=3)
            seen += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == await archive.hits("potato")
        assert [one.message_id is None for one in seen] == [True, False, False, False]
        assert [one.created_at for one in seen[1:]] == [2000, 1000, 0]

    play(url, scene)


@pytest.mark.parametrize("few", [0, 2, 1000], ids=["many hits", "three hits are many", "few hits"])
def test_the_list_has_what_is_found_however_much_there_is(
    url: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FEW_HITS", few)

    async def scene(archive: Archive) -> None:
        both = await archive.say("ann", "potato one", "potato two")
        title = await archive.say("ann", "nothing", title="Potatoes")
        await archive.say("ann", "nothing at all")
        await archive.say("bob", "potato")
        aside = await archive.say("ann", "potato")
        await archive.service.change("ann", aside, {"archived": True})

        async def listed(words: str, **more: Any) -> list[str]:
            page = await archive.service.list("ann", search=words, **more)
            return [one.id for one in page.items]

        for beginning in ("p", "po", "pot", "potato"):
            assert await listed(beginning) == [title, both]
        assert await listed("potato two") == [both]
        assert await listed("potato", archived=True) == [aside]
        assert await listed("tomato") == []
        first = await archive.service.list("ann", search="potato", limit=1)
        rest = await archive.service.list("ann", search="potato", limit=1, cursor=first.next_cursor)
        assert [one.id for one in (*first.items, *rest.items)] == [title, both]
        assert rest.next_cursor is None

    play(url, scene)


def test_one_letter_and_two_are_looked_up_and_not_put_together(tmp_path: Path) -> None:
    """The lengths that FTS5 keeps beginnings of are those of a mark and one or two letters."""
    url = f"sqlite:///{tmp_path}/alchat.db"
    migrate(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        made = connection.scalar(text("SELECT sql FROM sqlite_master WHERE name = 'search_index'"))
    engine.dispose()
    lengths = " ".join(str(len(mark_of("ann")) + letters) for letters in (1, 2))
    assert f"prefix='{lengths}'" in made


def test_the_index_follows_what_happens(url: str) -> None:
    async def scene(archive: Archive) -> None:
        chat = await archive.say("ann", "potato", title="roots")
        await archive.say("ann", "potato", temporary=True, title="roots")
        await archive.say("bob", "potato of bob", title="roots")
        assert len(await archive.hits("potato")) == 1
        assert len(await archive.hits("roots")) == 1
        assert len(await archive.hits("potato", "bob")) == 1
        assert await archive.hits("bob") == []
        await archive.service.change("ann", chat, {"title": "leaves"})
        assert await archive.hits("roots") == []
        assert await archive.found("leaves") == ["leaves"]
        (message,) = [one.message_id for one in await archive.hits("potato")]
        await archive.database.write(lambda c: put(c, [Entry(chat, message, "carrot")]))
        assert await archive.hits("potato") == []
        assert len(await archive.hits("carrot")) == 1
        assert [one.id for one in (await archive.service.list("ann", search="carr")).items] == [
            chat
        ]
        assert not await archive.service.delete("ann", chat)
        assert await archive.hits("carrot") == []
        await archive.service.restore("ann", chat)
        assert len(await archive.hits("carrot")) == 1
        await archive.service.delete("ann", chat)
        await archive.service.delete_for_good(chat)
        left = await archive.database.read(
            lambda c: c.scalar(
                text("SELECT count(*) FROM search_texts WHERE conversation_id = :chat"),
                {"chat": chat},
            )
        )
        assert left == 0

    play(url, scene)


def test_very_long_texts_do_not_break_the_index(url: str) -> None:
    async def scene(archive: Archive) -> None:
        many = " ".join(f"w{number}" for number in range(200_000))
        await archive.say("ann", "beginning " + many, "x" * 300_000 + " end")
        await archive.say("ann", "".join(chr(0x4E00 + number % 20_000) for number in range(90_000)))
        assert len(await archive.hits("beginning")) == 1
        assert len(await archive.hits("w77")) == 1
        assert len(await archive.hits("end")) == 1

    play(url, scene)


def test_what_was_there_before_the_upgrade_is_found(url: str) -> None:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    engine = create_engine(url)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    with engine.begin() as connection:
        for number in range(600):
            connection.execute(
                text(
                    "INSERT INTO conversations (id, owner, title, pinned, archived, created_at,"
                    " updated_at, last_message_at)"
                    " VALUES (:id, 'ann', :title, false, false, 1, 1, 1)"
                ),
                {"id": f"conv_{number:03}", "title": None if number else "Größe"},
            )
            connection.execute(
                text(
                    "INSERT INTO messages (id, conversation_id, role, content, created_at)"
                    " VALUES (:id, :conversation, 'user', :content, 1)"
                ),
                {
                    "id": f"msg_{number:03}",
                    "conversation": f"conv_{number:03}",
                    "content": f"potato number{number}" if number % 2 else "",
                },
            )
    engine.dispose()

    async def scene(archive: Archive) -> None:
        assert await archive.found("grosse") == ["Größe"]
        assert await archive.found("number599") == ["number599"]
        assert len(await archive.hits("n", role="user")) == 20
        assert len((await archive.service.list("ann", search="potato", limit=500)).items) == 300
        page = await archive.service.messages("ann", "conv_001")
        assert [one.content for one in page.items] == ["potato number1"]

    play(url, scene)


def test_a_snippet_shows_the_first_hit_and_no_more_than_needed() -> None:
    source = "before " * 100 + "the potato grows" + " after" * 100
    parts = snippet(source, Query("potat"))
    assert [part["text"] for part in parts if part["hit"]] == ["potato"]
    whole = "".join(str(part["text"]) for part in parts)
    assert whole.startswith("…before")
    assert whole.endswith("…")
    assert len(whole) < 300
    assert whole.strip("…") in source
    assert snippet("<b>a</b>", Query("b"))[1] == {"text": "b", "hit": True}
    assert snippet("nothing here", Query("x")) == [{"text": "nothing here", "hit": False}]


def test_over_http(service: Service, papita: FakePapita, user: UserClient, username: str) -> None:
    chat = user.create_conversation()
    sent = user.send(chat.id, "Erzähl von der Süßkartoffel", model="echo")
    follow_to_end(user, sent.run_id)
    headers = {"Authorization": f"Bearer {papita.token_for(username)}"}

    def ask(**params: Any) -> requests.Response:
        return requests.get(f"{service.url}/api/search", params=params, headers=headers, timeout=10)

    # Title, question, and the answer, which repeats the question.
    hits = ask(q="susskartoffel").json()["hits"]
    assert [(hit["role"], hit["messageId"] is None) for hit in hits] in (
        [("assistant", False), (None, True), ("user", False)],
        [("assistant", False), ("user", False), (None, True)],
    )
    assert {"text": "Süßkartoffel", "hit": True} in hits[0]["snippet"]
    assert len(ask(q="susskartoffel", role="assistant", model="echo").json()["hits"]) == 1
    assert ask(q="susskartoffel", until="2001-01-01T00:00:00Z").json()["hits"] == []
    first = ask(q="susskartoffel", limit=1).json()
    rest = ask(q="susskartoffel", cursor=first["nextCursor"]).json()
    assert first["hits"] + rest["hits"] == hits
    assert rest["nextCursor"] is None
    for wrong in ({}, {"q": "x", "cursor": "-1"}, {"q": "x" * 201}, {"q": "x", "role": "y"}):
        assert ask(**wrong).status_code == 422, wrong


def test_housekeeping_deletes_what_is_due_and_nothing_else(url: str) -> None:
    async def scene(archive: Archive) -> None:
        chats = {
            name: await archive.say("ann", *["word"] * 250, title=name, temporary="temp" in name)
            for name in ("kept", "deleted", "deleted long ago", "temp", "old temp")
        }
        for name in ("deleted", "deleted long ago"):
            await archive.service.delete("ann", chats[name])
        for column, name in (("deleted_at", "deleted long ago"), ("updated_at", "old temp")):
            await archive.database.write(
                lambda c, column=column, name=name: c.execute(
                    text(f"UPDATE conversations SET {column} = 5 WHERE id = :id"),
                    {"id": chats[name]},
                )
            )

        async def left() -> set[str]:
            rows = await archive.database.read(
                lambda c: c.execute(text("SELECT id FROM conversations")).scalars().all()
            )
            return {name for name, chat in chats.items() if chat in rows}

        files = AttachmentService(Settings(), archive.database, Files(Path("nowhere")))
        keeper = Housekeeping(archive.database, files, undo_minutes=1, temporary_minutes=1)
        assert await keeper.look() == 2
        assert await left() == {"kept", "deleted", "temp"}
        assert await keeper.look() == 0
        assert await keeper.look(all_temporary=True) == 1
        assert await left() == {"kept", "deleted"}
        await archive.service.restore("ann", chats["deleted"])
        assert len((await archive.service.search("ann", "word", Filters(), limit=900)).items) == 500

    play(url, scene)
