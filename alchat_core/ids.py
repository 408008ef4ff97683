"""Ids that sort by the moment at which this process made them, even if the clock steps back; the
moments themselves, too.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """`<prefix>_` and 26 characters: 48 bits of milliseconds, 12 of a counter, 68 random."""
    global _last
    with _lock:
        _last = max(_last + 1, int(time.time() * 1000) << 12)
        moment = _last
    number = (moment << 70) | (int.from_bytes(os.urandom(9)) >> 2)
    return f"{prefix}_" + "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])


_PAIRS = [one + other for one in _ALPHABET for other in _ALPHABET]
_SHIFTS = range(120, -1, -10)


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return int(time.time() * 1000)


def iso(moment: int | None) -> str | None:
    """Milliseconds since 1970 as RFC 3339."""
    if moment is None:
        return None
    text = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
