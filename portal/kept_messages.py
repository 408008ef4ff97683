"""Which of the messages that a browser says it keeps it will still have when they are needed.

Streamlit sends a large message once, and then its hash alone to a browser that says with a request
that it keeps it. But a browser forgets, at the end of a run, what that run and some before did not
show. That end may reach it when it has asked for the next run already; then it gets the hash of
what it has just forgotten, and a page that misses one message shows nothing that comes after it.
So for a while after a run has ended, only what that run showed counts as kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

# By then the end of a run has reached the browser, or the browser does not answer clicks either.
SETTLE_SECONDS: Final = 3.0


class KeptMessages:
    """What one browser was sent: `sent` is told everything, in its order, and `sure` asked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._settled_at = 0.0
        # Hashes: shown since the last end of a run, and surely kept after it.
        self._shown: set[str] = set()
        self._kept: set[str] = set()
        # The fragment in which a message was first shown: its runs let the browser forget it.
        self._fragments: dict[str, str] = {}

    def sent(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "ref_hash":
            self._shown.add(message.ref_hash)
        elif kind == "delta" and message.metadata.cacheable:
            self._shown.add(message.hash)
            self._fragments.setdefault(message.hash, message.delta.fragment_id)
        elif kind == "script_finished":
            self._ended(message)

    def sure(self, hashes: Iterable[str]) -> list[str]:
        """Those of `hashes`, which the browser says it keeps, that may be sent as a hash."""
        if self._clock() >= self._settled_at:
            return list(hashes)
        return [one for one in hashes if one in self._kept or one in self._shown]

    def after_this_run(self) -> frozenset[str]:
        """What the browser keeps for a run that the present one asks for: it forgets nothing then.
        From any thread.
        """
        return frozenset(self._kept | self._shown)

    def _ended(self, message: ForwardMsg) -> None:
        if message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            # After such a run a browser forgets nothing.
            self._kept |= self._shown
        else:
            fragments = set(message.metadata.run.fragment_ids)
            if fragments:
                own = {one for one in self._kept if self._fragments.get(one) in fragments}
                self._kept = (self._kept - own) | self._shown
            else:
                self._kept = self._shown
            self._fragments = {
                name: fragment for name, fragment in self._fragments.items() if name in self._kept
            }
            self._settled_at = self._clock() + SETTLE_SECONDS
        self._shown = set()
