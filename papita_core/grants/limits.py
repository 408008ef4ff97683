"""How often a project may borrow a user's key."""

from __future__ import annotations

import time

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from papita_core.errors import TooManyAttempts


class LoanLimit:
    """Counts loans per user and project, as PAPITA_RESOLVE_LIMIT says."""

    def __init__(self, limit: str) -> None:
        self._item = parse(limit)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def hit(self, user_id: str, project_id: str) -> TooManyAttempts | None:
        """Counts one more; what to answer where that is one too many."""
        if self._limiter.hit(self._item, user_id, project_id):
            return None
        reset = self._limiter.get_window_stats(self._item, user_id, project_id).reset_time
        return TooManyAttempts(int(reset - time.time()) + 1)
