"""The values of the event log: numbered events of a run and how a run ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STARTED = "run.started"
TEXT = "text.delta"
REASONING = "reasoning.delta"
RETRYING = "run.retrying"
SEAM = "run.seam"
TRIMMED = "run.trimmed"
SOURCES = "run.sources"
BUDGET = "run.budget"
COMPLETED = "run.completed"
FAILED = "run.failed"
CANCELLED = "run.cancelled"
INTERRUPTED = "run.interrupted"

# The state of a run is the last part of the event that ends it.
TERMINAL = frozenset({COMPLETED, FAILED, CANCELLED, INTERRUPTED})


@dataclass(frozen=True, slots=True)
class Event:
    """One event as everybody sees it. `data` is JSON, UTF-8."""

    number: int
    type: str
    data: bytes

    @property
    def terminal(self) -> bool:
        return self.type in TERMINAL

    def frame(self) -> bytes:
        """The event in the form of server-sent events."""
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self.number, self.type.encode(), self.data)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: one of `TERMINAL`, with the data of that event."""

    type: str
    data: dict[str, Any]

    @property
    def state(self) -> str:
        return self.type.partition(".")[2]
