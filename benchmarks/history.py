"""A user with a long history in AL-Chat: written right into its database, then read over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import insert, select, text
from sqlalchemy.engine import Connection

from alchat_core.conversations.search import Entry, put
from alchat_core.db.engine import Database
from alchat_core.db.tables import conversations, messages
from alchat_core.ids import new_id, now_ms

CONVERSATIONS = 10_000
MESSAGES = 4  # in each
LONG = 5_000  # messages of the one that is long
WORDS_EACH = 40
SYLLABLES = ("ba", "ke", "lo", "mi", "nu", "ra", "se", "ti", "vo", "pe", "da", "go")


def owner_of(user_token: str) -> str:
    """The user's id, as AL-Chat knows it."""
    body = user_token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["sub"])


class Words:
    """Sentences of made-up words, some of which are frequent and most of which are rare."""

    def __init__(self) -> None:
        self._random = random.Random(20)
        made = {self._word() for _ in range(30_000)}
        self.vocabulary = sorted(made)
        self._random.shuffle(self.vocabulary)
        self._weights = [1 / (place + 10) for place in range(len(self.vocabulary))]

    def _word(self) -> str:
        return "".join(self._random.choices(SYLLABLES, k=self._random.randint(2, 5)))

    def sentence(self, length: int) -> str:
        return " ".join(self._random.choices(self.vocabulary, self._weights, k=length))


def fill(url: str, owner: str) -> dict[str, Any]:
    """Writes the history; what to look for in it, and the id of the long conversation."""
    words = Words()
    database = Database(url)

    async def write() -> str:
        for _ in range(CONVERSATIONS // 500):
            await database.write(lambda connection: _add(connection, owner, words, 500, MESSAGES))
        (long,) = await database.write(lambda connection: _add(connection, owner, words, 1, LONG))
        # As PostgreSQL does by itself within a minute of so many new rows.
        await database.write(lambda connection: connection.execute(text("ANALYZE")))
        await database.close()
        return long

    long = asyncio.run(write())
    common, rare = words.vocabulary[0], words.vocabulary[-1]
    return {"long": long, "common": common, "rare": rare, "pair": words.vocabulary[20:22]}


async def write_one(database: Database, owner: str, length: int) -> tuple[str, str]:
    """One conversation of so many messages; its id and that of its last message."""
    words = Words()
    (talk,) = await database.write(lambda connection: _add(connection, owner, words, 1, length))
    query = (
        select(messages.c.id)
        .where(messages.c.conversation_id == talk)
        .order_by(messages.c.id.desc())
        .limit(1)
    )
    last = await database.read(lambda connection: connection.scalar(query))
    await database.close()
    return talk, str(last)


def _add(connection: Connection, owner: str, words: Words, count: int, length: int) -> list[str]:
    talks, lines, entries = [], [], []
    for _ in range(count):
        now = now_ms()
        talk = {
            "id": new_id("conv"),
            "owner": owner,
            "title": words.sentence(5),
            "model": "demo",
            "pinned": False,
            "archived": False,
            "temporary": False,
            "created_at": now,
            "updated_at": now,
            "last_message_at": now,
        }
        talks.append(talk)
        entries.append(Entry(talk["id"], None, talk["title"], new=True))
        parent = None
        for number in range(length):
            line = {
                "id": new_id("msg"),
                "conversation_id": talk["id"],
                "parent_id": parent,
                "role": "assistant" if number % 2 else "user",
                "content": words.sentence(WORDS_EACH),
                "model": "demo" if number % 2 else None,
                "created_at": now,
            }
            parent = line["id"]
            lines.append(line)
            entries.append(Entry(talk["id"], line["id"], line["content"], new=True))
    connection.execute(insert(conversations), talks)
    connection.execute(insert(messages), lines)
    put(connection, entries)
    return [talk["id"] for talk in talks]


def paths(found: dict[str, Any]) -> dict[str, str]:
    """What is read, by name."""
    common, rare, pair = found["common"], found["rare"], " ".join(found["pair"])
    return {
        "list": "/api/conversations",
        "list, a word": _path("/api/conversations", search=common),
        "search, a frequent word": _path("/api/search", q=common),
        "search, a rare word": _path("/api/search", q=rare),
        "search, two words": _path("/api/search", q=pair),
        "search, two letters": _path("/api/search", q=common[:2]),
        "5,000 messages, first page": f"/api/conversations/{found['long']}/messages",
    }


def _path(path: str, **query: str) -> str:
    return f"{path}?{urlencode(query)}"
