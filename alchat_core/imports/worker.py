"""Reads an uploaded file in a process of its own (`alchat_core.sandbox`): `worker.py TASK`.

The file is standard input. What is found goes to standard output as frames, four bytes of length
and JSON, of these kinds (`k`): `begin` (a conversation), `messages` (some of its messages),
`done`, `skipped`, and as the last one `end`. The words for the search index are made here as well.
"""

from __future__ import annotations

import struct
import sys
from collections import Counter
from dataclasses import fields
from typing import IO, Any

import orjson

from alchat_core.conversations.models import title_from
from alchat_core.conversations.words import indexed
from alchat_core.imports.reading import Limits, Skipped, Stopped, conversations_in
from alchat_core.imports.values import Found, Planned

# As many as the service writes in one unit.
ROWS_AT_ONCE = 8
CHARS_AT_ONCE = 40_000
MAX_REPORTED = 200


class Writer:
    def __init__(self, owner: str, out: IO[bytes]) -> None:
        self._owner = owner
        self._out = out

    def frame(self, kind: str, **what: Any) -> None:
        raw = orjson.dumps({"k": kind, **what})
        self._out.write(struct.pack(">I", len(raw)) + raw)

    def conversation(self, found: Found) -> None:
        if found.title is None:
            found.title = title_from(found.messages[0].content) or None
        about = {
            one.name: getattr(found, one.name)
            for one in fields(found)
            if one.name not in ("messages", "active")
        }
        about["words"] = self._words(found.title or "")
        self.frame("begin", about=about)
        rows: list[Any] = []
        size = 0
        for message in found.messages:
            rows.append([*_row(message), self._words(message.content)])
            size += len(message.content) + len(message.reasoning or "")
            if len(rows) >= ROWS_AT_ONCE or size > CHARS_AT_ONCE:
                self.frame("messages", rows=rows)
                rows, size = [], 0
        if rows:
            self.frame("messages", rows=rows)
        self.frame("done", active=found.active)

    def _words(self, text: str) -> str:
        return " ".join(indexed(self._owner, text))


def _row(message: Planned) -> list[Any]:
    return [
        message.parent,
        message.role,
        message.content,
        message.reasoning,
        message.model,
        message.created_at,
        message.rating,
        message.comment,
        message.sources,
    ]


def run(given: dict[str, Any], source: IO[bytes], out: IO[bytes]) -> None:
    writer = Writer(given["owner"], out)
    left_out: Counter[str] = Counter()
    skipped, stopped = 0, None
    try:
        for found in conversations_in(source, Limits(**given["limits"]), left_out):
            if isinstance(found, Skipped):
                skipped += 1
                if skipped <= MAX_REPORTED:
                    writer.frame("skipped", name=found.name, reason=found.reason)
            else:
                writer.conversation(found)
    except Stopped as reason:
        stopped = str(reason)
    except MemoryError:
        stopped = (
            "It needs more memory than an import may use, so the rest was not read."
            " Split the file and import the parts."
        )
    writer.frame("end", leftOut=left_out, skipped=skipped, stopped=stopped)
    out.flush()


if __name__ == "__main__":
    run(orjson.loads(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
