"""What a row of the log says and how it is chained to the one before it.

`mac = HMAC(key, stream ‖ seq ‖ previous mac ‖ body)`, each part with its length before it. A body
is canonical JSON: names sorted, no spaces, nothing that is empty.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

MAIN = "main"
START = b"\0" * 32
MAC_SIZE = 32
REPEATED = ("action", "actor_id", "owner_id", "subject_id", "project_id", "outcome")

STREAM_OPENED = "audit.stream-opened"  # in main, when another stream gets its head
BEGUN_ANEW = "audit.begun-anew"  # first row of main, where there had been a log before


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. `owner_id` is whose things it concerns; `outcome` is ok, or why not."""

    action: str
    actor_id: str | None = None
    owner_id: str | None = None
    subject_id: str | None = None
    project_id: str | None = None
    lease_id: str | None = None
    request_id: str | None = None
    run_id: str | None = None
    outcome: str = "ok"
    details: dict[str, Any] = field(default_factory=dict)


FIELDS = tuple(item.name for item in fields(Event))
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(event: Event, at: datetime) -> str:
    # Not `asdict`, which copies: every loan comes by here.
    values = ((name, getattr(event, name)) for name in FIELDS)
    body = {name: value for name, value in values if value not in (None, {})}
    body["at"] = at.isoformat(timespec="microseconds")
    return _ENCODER.encode(body)


def event_of(body: str) -> Event:
    """The event of a body. Raises `ValueError` where it is none."""
    try:
        values = json.loads(body)
        values.pop("at", None)
        return Event(**values)
    except (TypeError, AttributeError, RecursionError):
        raise ValueError("no body of an event") from None


def repeated(body: str) -> tuple[Any, ...]:
    """The parts of a body that stand in columns of their own, for search: at and `REPEATED`."""
    values = json.loads(body)
    return datetime.fromisoformat(values["at"]), *(values.get(name) for name in REPEATED)


def head_mac(key: bytes, stream: str, seq: int, last: bytes) -> bytes:
    """What the head of a stream holds: the mac of its last row, and one over the two together.

    Whoever cuts off the end of a stream, and has not the key, cannot make the head that fits.
    """
    return last + mac(key, f"head of {stream}", seq, last, "")


def mac(key: bytes, stream: str, seq: int, previous: bytes, body: str) -> bytes:
    parts: Sequence[bytes] = (stream.encode(), seq.to_bytes(8, "big"), previous, body.encode())
    message = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    return hmac.digest(key, message, "sha256")
