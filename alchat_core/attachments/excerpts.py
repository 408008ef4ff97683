"""The text of attached files: whole, or the excerpts that fit a question best.

What fits best is decided by BM25 as SQLite's FTS5 computes it, over the words of all files of the
branch together, in memory: the same whichever database the service uses. The words are made by
`alchat_core.conversations.words`, so that every script has some. All functions block, and raise
`OSError` or `sqlite3.Error` for a file that is gone or broken.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from alchat_core.attachments.models import Attachment, Excerpt
from alchat_core.conversations.words import words_of

MAX_QUESTION_WORDS = 100
MAX_QUESTION_CHARS = 10_000


def pages_of(path: Path) -> list[tuple[int | None, str]]:
    """Number and text of each page; None where the file has no pages."""
    with contextlib.closing(sqlite3.connect(_uri(path), uri=True)) as file:
        rows = file.execute("SELECT number, text FROM pages ORDER BY number").fetchall()
    return [(number or None, text) for number, text in rows]


def best_for(question: str, files: Sequence[tuple[Attachment, Path]], count: int) -> list[Excerpt]:
    """At most `count` excerpts in the order of the files and of their text.

    Where fewer fit - "what is this about?" - the beginnings of the files fill up.
    """
    with contextlib.closing(
        sqlite3.connect("file::memory:", uri=True, isolation_level=None)
    ) as index:
        index.executescript(
            "CREATE TABLE chunks (id INTEGER PRIMARY KEY, file INTEGER, number INTEGER,"
            " page INTEGER, text TEXT);"
            "CREATE VIRTUAL TABLE found USING fts5(words, content='', tokenize='ascii')"
        )
        for place, (_, path) in enumerate(files):
            _add(index, place, path)
        chosen = _matching(index, question, count)
        if len(chosen) < count:
            chosen += _beginnings(index, chosen, count - len(chosen))
        marks = ",".join("?" * len(chosen))
        rows = index.execute(
            f"SELECT file, page, text FROM chunks WHERE id IN ({marks}) ORDER BY id",  # noqa: S608 - question marks alone
            chosen,
        ).fetchall()
    return [Excerpt(files[place][0], page or None, text) for place, page, text in rows]


def _add(index: sqlite3.Connection, place: int, path: Path) -> None:
    """One statement for all chunks of a file: SQLite works without the interpreter's lock."""
    first = index.execute("SELECT coalesce(max(id), 0) FROM chunks").fetchone()[0]
    index.execute("ATTACH ? AS file", (_uri(path),))
    index.execute("BEGIN")
    index.execute(
        "INSERT INTO chunks SELECT id + ?, ?, id, page, text FROM file.chunks", (first, place)
    )
    index.execute(
        "INSERT INTO found (rowid, words) SELECT id + ?, words FROM file.chunks", (first,)
    )
    index.execute("COMMIT")
    index.execute("DETACH file")


def _matching(index: sqlite3.Connection, question: str, count: int) -> list[int]:
    words = list(dict.fromkeys(words_of(question[-MAX_QUESTION_CHARS:])))[:MAX_QUESTION_WORDS]
    if not words:
        return []
    # A word holds letters and digits alone, so nothing needs escaping.
    wanted = " OR ".join(f'"{word}"' for word in words)
    rows = index.execute(
        "SELECT rowid FROM found WHERE found MATCH ? ORDER BY bm25(found), rowid LIMIT ?",
        (wanted, count),
    )
    return [row[0] for row in rows]


def _beginnings(index: sqlite3.Connection, without: list[int], count: int) -> list[int]:
    """Of each file in turn."""
    rows = index.execute("SELECT id FROM chunks ORDER BY number, file LIMIT ?", (count * 2 + 100,))
    return [row[0] for row in rows if row[0] not in without][:count]


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
