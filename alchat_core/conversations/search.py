"""The search index over titles and messages: kept by whoever writes them, asked by this module.

`alchat_core.conversations.words` makes the words; FTS5 on SQLite and a GIN index over a `tsvector`
on PostgreSQL find them. Temporary conversations are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    String,
    Text,
    bindparam,
    cast,
    exists,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.types import TypeEngine

from alchat_core.conversations.models import UNTITLED
from alchat_core.conversations.words import Query, indexed, snippet
from alchat_core.db.tables import conversations, search_texts
from alchat_core.ids import iso
from sqlkit import Change, Direct, Many, Prepared

# Of a longer message the snippet shows the beginning, if nothing is found before.
MAX_SNIPPET_SOURCE = 200_000
# With more hits a list on SQLite asks each of its conversations whether it has one, until the page
# is full: that is soon, as a rule, and looking up whose all of them are takes longer.
FEW_HITS = 5_000

_OWNER = Prepared(
    select(conversations.c.owner).where(
        conversations.c.id == bindparam("wanted"), ~conversations.c.temporary
    )
)
_of_it = search_texts.c.conversation_id == bindparam("conversation")
_MESSAGE = update(search_texts).where(_of_it, search_texts.c.message_id == bindparam("message"))
_TITLE = update(search_texts).where(_of_it, search_texts.c.message_id.is_(None))
_WORDS: dict[str, Any] = {
    "sqlite": bindparam("found"),
    "postgresql": func.array_to_tsvector(cast(bindparam("found"), ARRAY(Text))),
}
_CHANGE_MESSAGE = {name: Prepared(_MESSAGE.values(words=words)) for name, words in _WORDS.items()}
_CHANGE_TITLE = {name: Prepared(_TITLE.values(words=words)) for name, words in _WORDS.items()}
_ADD = {
    name: Prepared(
        insert(search_texts).values(
            conversation_id=bindparam("conversation"), message_id=bindparam("message"), words=words
        )
    )
    for name, words in _WORDS.items()
}
# The same for many entries at once, on PostgreSQL.
_KINDS: dict[str, TypeEngine[Any]] = {
    "conversation": String(),
    "message": String(),
    "found": ARRAY(Text),
}
_OWNERS = Many(
    lambda given: select(given.place.label("place"), conversations.c.owner).where(
        conversations.c.id == given.wanted, ~conversations.c.temporary
    ),
    {"place": Integer(), "wanted": String()},
)


def _place(given: Any) -> Any:
    """The entry of these values."""
    return (search_texts.c.conversation_id == given.conversation) & (
        search_texts.c.message_id.is_not_distinct_from(given.message)
    )


_CHANGE_MANY = Many(
    lambda given: (
        update(search_texts).where(_place(given)).values(words=func.array_to_tsvector(given.found))
    ),
    _KINDS,
)
_ADD_MISSING = Many(
    lambda given: insert(search_texts).from_select(
        ["conversation_id", "message_id", "words"],
        select(given.conversation, given.message, func.array_to_tsvector(given.found)).where(
            ~exists().where(_place(given))
        ),
    ),
    _KINDS,
)
_ADD_MANY = Many(
    lambda given: insert(search_texts).from_select(
        ["conversation_id", "message_id", "words"],
        select(given.conversation, given.message, func.array_to_tsvector(given.found)),
    ),
    _KINDS,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """The text of a message, or of a title, where there is no `message_id`.

    `new`: it has no entry yet.
    """

    conversation_id: str
    message_id: str | None
    text: str
    new: bool = False


def put(connection: Connection, entries: Iterable[Entry]) -> None:
    """Brings the index in line with what has been written in the same unit."""
    owners: dict[str, str | None] = {}
    engine = connection.dialect.name
    for entry in entries:
        if entry.new and not entry.text:
            continue
        if entry.conversation_id not in owners:
            row = _OWNER.first(connection, {"wanted": entry.conversation_id})
            owners[entry.conversation_id] = None if row is None else row.owner
        owner = owners[entry.conversation_id]
        if owner is None:
            continue
        words = indexed(owner, entry.text)
        given = {
            "conversation": entry.conversation_id,
            "message": entry.message_id,
            "found": " ".join(words) if engine == "sqlite" else words,
        }
        change = (_CHANGE_MESSAGE if entry.message_id else _CHANGE_TITLE)[engine]
        if not entry.new and change.run(connection, given):
            continue
        if words:
            _ADD[engine].run(connection, given)


async def index_changes(direct: Direct, entries: Sequence[Entry]) -> list[Change]:
    """What `put` would do, as changes that are to be made with what has been written."""
    wanted = [entry for entry in entries if entry.text or not entry.new]
    if not wanted:
        return []
    asked = list({entry.conversation_id for entry in wanted})
    rows = await direct.rows(
        _OWNERS, [{"place": place, "wanted": one} for place, one in enumerate(asked)]
    )
    owners = {asked[row.place]: row.owner for row in rows}
    new: list[dict[str, Any]] = []
    old: list[dict[str, Any]] = []
    for entry in wanted:
        owner = owners.get(entry.conversation_id)
        if owner is None:
            continue
        given = {
            "conversation": entry.conversation_id,
            "message": entry.message_id,
            "found": indexed(owner, entry.text),
        }
        (new if entry.new else old).append(given)
    return [
        (_CHANGE_MANY, old),
        (_ADD_MISSING, [given for given in old if given["found"]]),
        (_ADD_MANY, [given for given in new if given["found"]]),
    ]


def put_words(
    connection: Connection, conversation_id: str, found: Iterable[tuple[str | None, str]]
) -> None:
    """New entries of one conversation that is not temporary, with the words that `indexed` made,
    separated by spaces; it takes a while to make those of many messages.
    """
    engine = connection.dialect.name
    rows = [
        {
            "conversation": conversation_id,
            "message": message_id,
            "found": words if engine == "sqlite" else words.split(),
        }
        for message_id, words in found
        if words
    ]
    if rows:
        _ADD[engine].run(connection, *rows)


_MANY = text("SELECT 1 FROM search_index WHERE search_index MATCH :words LIMIT 1 OFFSET :most")
_ALL = text("SELECT rowid FROM search_index WHERE search_index MATCH :words")
_THEIRS = text(
    "SELECT search_texts.conversation_id FROM search_index CROSS JOIN search_texts"
    " ON search_texts.number = search_index.rowid WHERE search_index MATCH :words"
)


def found_in(connection: Connection, owner: str, query: Query) -> ColumnElement[bool]:
    """The condition that it is found in the conversation of a row."""
    table = search_texts.c
    if connection.dialect.name != "sqlite":
        found = text("search_texts.words @@ CAST(:words AS tsquery)")
        return conversations.c.id.in_(
            select(table.conversation_id).where(found.bindparams(words=query.tsquery(owner)))
        )
    words = query.fts5(owner)
    if connection.execute(_MANY, {"words": words, "most": FEW_HITS}).first() is None:
        return conversations.c.id.in_(_THEIRS.bindparams(words=words))
    return exists().where(
        table.conversation_id == conversations.c.id, table.number.in_(_ALL.bindparams(words=words))
    )


@dataclass(frozen=True, slots=True)
class Filters:
    """What is None does not matter. Moments are milliseconds since 1970; `until` is excluded."""

    folder: str | None = None
    tag: str | None = None
    archived: bool | None = None
    role: str | None = None
    model: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A message, or a title where there is no `message_id`. `number` orders hits, newest last."""

    number: int
    conversation_id: str
    message_id: str | None
    title: str | None
    role: str | None
    created_at: int
    snippet: list[dict[str, str | bool]]

    def as_json(self) -> dict[str, Any]:
        return {
            "conversationId": self.conversation_id,
            "messageId": self.message_id,
            "title": self.title or UNTITLED,
            "role": self.role,
            "createdAt": iso(self.created_at),
            "snippet": self.snippet,
        }


# CROSS JOIN tells SQLite to ask the index first: it cannot know how few rows that one gives.
_FIND = {
    "sqlite": "search_index CROSS JOIN search_texts s ON s.number = search_index.rowid"
    " CROSS JOIN conversations c ON c.id = s.conversation_id"
    " LEFT JOIN messages m ON m.id = s.message_id WHERE search_index MATCH :words",
    "postgresql": "search_texts s JOIN conversations c ON c.id = s.conversation_id"
    " LEFT JOIN messages m ON m.id = s.message_id WHERE s.words @@ CAST(:words AS tsquery)",
}
_NUMBER = {"sqlite": "search_index.rowid", "postgresql": "s.number"}
_MOMENT = "coalesce(m.created_at, c.created_at)"
_CONDITIONS = {
    "folder": "c.folder = :folder",
    "tag": "EXISTS (SELECT 1 FROM conversation_tags t"
    " WHERE t.conversation_id = c.id AND t.tag = :tag)",
    "archived": "c.archived = :archived",
    "role": "m.role = :role",
    "model": "m.model = :model",
    "since": f"{_MOMENT} >= :since",
    "until": f"{_MOMENT} < :until",
}


def hits(
    connection: Connection,
    owner: str,
    query: Query,
    filters: Filters,
    *,
    below: int | None,
    limit: int,
) -> list[Hit]:
    """The newest first, with numbers lower than `below`."""
    engine = connection.dialect.name
    given: dict[str, Any] = {
        "words": query.fts5(owner) if engine == "sqlite" else query.tsquery(owner),
        "owner": owner,
        "count": limit,
        "most": MAX_SNIPPET_SOURCE,
    }
    wanted = ["c.owner = :owner", "c.deleted_at IS NULL", "NOT c.temporary"]
    for name, condition in _CONDITIONS.items():
        value = getattr(filters, name)
        if value is not None:
            given[name] = value
            wanted.append(condition)
    if below is not None:
        given["below"] = below
        wanted.append(f"{_NUMBER[engine]} < :below")
    rows = connection.execute(
        text(
            "SELECT s.number, s.conversation_id, s.message_id, c.title, m.role,"  # noqa: S608 - all of it is written above
            f" {_MOMENT}, substr(coalesce(m.content, c.title), 1, :most) FROM {_FIND[engine]}"
            f" AND {' AND '.join(wanted)} ORDER BY {_NUMBER[engine]} DESC LIMIT :count"
        ),
        given,
    )
    return [
        Hit(number, conversation_id, message_id, title, role, moment, snippet(source, query))
        for number, conversation_id, message_id, title, role, moment, source in rows
    ]
