"""How often a project may borrow a user's key."""

from __future__ import annotations

import threading
import time

from limits import parse

from papita_core.errors import TooManyAttempts


class LoanLimit:
    """Counts loans per user and project, as PAPITA_RESOLVE_LIMIT says; a window begins with a loan.

    The storage of the library starts a thread every few hits, which costs more than a loan. There
    are no more counts than users and projects, so none is ever thrown away.
    """

    def __init__(self, limit: str) -> None:
        item = parse(limit)
        self._amount, self._seconds = item.amount, item.get_expiry()
        self._counts: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def hit(self, user_id: str, project_id: str) -> TooManyAttempts | None:
        """Counts one more; what to answer where that is one too many."""
        now, key = time.monotonic(), (user_id, project_id)
        with self._lock:
            begun, count = self._counts.get(key, (now, 0))
            if now - begun >= self._seconds:
                begun, count = now, 0
            self._counts[key] = begun, count + 1
        if count < self._amount:
            return None
        return TooManyAttempts(int(begun + self._seconds - now) + 1)
