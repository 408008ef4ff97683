"""Entries as text for other programs: JSON lines, and CSV for spreadsheets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

from papita_core.audit.search import Entry

COLUMNS = (
    *("at", "stream", "seq", "action", "actor", "owner", "subject", "project", "lease", "run"),
    *("request", "outcome", "details", "actor_id", "owner_id"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


def as_dict(entry: Entry) -> dict[str, Any]:
    """An entry as the API shows it; ids and, where they are users, names."""
    event = entry.event
    return {
        "at": entry.at.isoformat(timespec="microseconds"),
        "stream": entry.stream,
        "seq": entry.seq,
        "action": event.action,
        "actorId": event.actor_id,
        "actorName": entry.actor_name,
        "ownerId": event.owner_id,
        "ownerName": entry.owner_name,
        "subjectId": event.subject_id,
        "projectId": event.project_id,
        "leaseId": event.lease_id,
        "runId": event.run_id,
        "requestId": event.request_id,
        "outcome": event.outcome,
        "details": event.details,
    }


def as_json_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """One JSON object a line, with the names that the API has."""
    for entry in entries:
        yield json.dumps(as_dict(entry), ensure_ascii=False) + "\n"


def as_csv(entries: Iterable[Entry]) -> Iterator[str]:
    """RFC 4180, the header first. What a spreadsheet would take for a formula gets a ' before it.

    `actor` and `owner` are user names where there are such users, else ids.
    """
    writer = csv.writer(_Lines())
    yield str(writer.writerow(COLUMNS))
    for entry in entries:
        event = entry.event
        cells = (
            entry.at.isoformat(timespec="microseconds"),
            entry.stream,
            entry.seq,
            event.action,
            entry.actor_name or event.actor_id,
            entry.owner_name or event.owner_id,
            event.subject_id,
            event.project_id,
            event.lease_id,
            event.run_id,
            event.request_id,
            event.outcome,
            json.dumps(event.details, ensure_ascii=False, sort_keys=True) if event.details else "",
            event.actor_id,
            event.owner_id,
        )
        yield str(writer.writerow(_harmless(cell) for cell in cells))


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


class _Lines:
    """A file for `csv.writer`, whose `writerow` then returns the line."""

    def write(self, line: str) -> str:
        return line
