"""How long to wait before a provider is asked again, and which words tell a user to wait.

Exponential back-off with full jitter, so that answers which failed together do not come back
together; a provider that names a time is given that time, and a little more for the same reason.
"""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_SECONDS = 0.4
LONGEST_SECONDS = 8.0


def pause_before(
    attempt: int,
    retry_after: int | None,
    longest: float,
    chance: Callable[[], float] = random.random,
) -> float | None:
    """Seconds to wait before attempt number `attempt`, which is 2 or more.

    None if the provider's own `retry_after` is longer than `longest`: then nobody waits.
    """
    if retry_after is not None:
        return None if retry_after > longest else retry_after + chance() * FIRST_SECONDS
    return chance() * min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** (attempt - 2))


def in_words(seconds: int) -> str:
    """`in 7 seconds`, `in 3 minutes`, `in 2 hours`: rounded up."""
    for size, name in ((3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"in {-(-seconds // size)} {name}s"
    return "in a second" if seconds <= 1 else f"in {seconds} seconds"
