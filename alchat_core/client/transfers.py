"""Calls about files of conversations: take them away, and bring them from elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal
from urllib.parse import unquote

from alchat_core.client.calls import Calls, segment
from alchat_core.client.errors import Invalid

_NAME = re.compile(r"filename\*=UTF-8''([^;\s]+)")
Format = Literal["markdown", "json"]

# An import may take as long as the service lets it, ten minutes unless set otherwise, and wait
# for others before.
IMPORT_SECONDS = 1300.0


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """`name` is one that every system takes, made from the title."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A conversation by its title, or a file by its name, and why it was not imported."""

    name: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What imported conversations had and AL-Chat does not keep, in words."""

    what: str
    count: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file: `imported` and `already_there` count conversations, `messages` those
    in the imported ones.

    `not_taken` has the first of `not_taken_count`, `conversation_ids` the first of the imported
    ones; `stopped` is why the rest of the file was not read, None if it was.
    """

    imported: int
    messages: int
    already_there: int
    not_taken_count: int
    not_taken: tuple[NotTaken, ...]
    left_out: tuple[LeftOut, ...]
    conversation_ids: tuple[str, ...]
    stopped: str | None


class NothingImported(Invalid):
    """`report` says why; it may be that all of it is here already."""

    def __init__(self, problem: Invalid, report: ImportReport) -> None:
        super().__init__(problem.status, problem.code, problem.detail, None, problem.more)
        self.report = report


class TransferCalls(Calls):
    def export_conversation(
        self,
        conversation_id: str,
        format: Format = "markdown",  # noqa: A002 - the name on the wire
    ) -> ExportedFile:
        """Markdown is the active branch, to be read; JSON is all, to be imported again."""
        path = f"/api/conversations/{segment(conversation_id)}/export"
        response = self._client.answer("GET", path, self._token_source(), params={"format": format})
        return ExportedFile(_file_name(response.headers) or "conversation", response.content)

    def export_all(
        self,
        into: IO[bytes],
        format: Format = "json",  # noqa: A002 - the name on the wire
    ) -> int:
        """Writes all conversations as a ZIP into an open file, in pieces; how many bytes they were.

        What is written before an error is not whole.
        """
        return self._client.download(
            "/api/export", self._token_source(), into, params={"format": format}
        )

    def import_conversations(self, source: bytes | IO[bytes]) -> ImportReport:
        """Takes conversations from an export of AL-Chat or ChatGPT, JSON or ZIP: its bytes, or a
        file open for reading, which is sent from its beginning without being held in memory.

        Raises `NothingImported`; what was imported before is not taken twice.
        """
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        file.seek(0)
        kind = "zip" if file.read(2) == b"PK" else "json"
        file.seek(0)
        try:
            found = self._send_file(
                "/api/imports",
                data=file,
                headers={"Content-Type": f"application/{kind}"},
                timeout=IMPORT_SECONDS,
            )
        except Invalid as problem:
            if (report := problem.more.get("report")) is None:
                raise
            raise NothingImported(problem, _report_of(report)) from None
        return _report_of(found)


def _report_of(item: Mapping[str, Any]) -> ImportReport:
    return ImportReport(
        imported=item["imported"],
        messages=item["messages"],
        already_there=item["alreadyThere"],
        not_taken_count=item["notTakenCount"],
        not_taken=tuple(NotTaken(one["name"], one["reason"]) for one in item["notTaken"]),
        left_out=tuple(LeftOut(one["what"], one["count"]) for one in item["leftOut"]),
        conversation_ids=tuple(item["conversationIds"]),
        stopped=item["stopped"],
    )


def _file_name(headers: Mapping[str, str]) -> str | None:
    """That of a Content-Disposition in the form that takes every letter (RFC 6266)."""
    found = _NAME.search(headers.get("Content-Disposition", ""))
    return unquote(found[1]) if found else None
