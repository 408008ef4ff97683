"""How often a project may borrow a user's key."""

from __future__ import annotations

import time

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from papita_core.errors import TooManyAttempts


class ResolveLimit:
    """Counts loans per user and project, as PAPITA_RESOLVE_LIMIT says."""

    def __init__(self, limit: str) -> None:
        self._item = parse(limit)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def hit(self, username: str, project_id: str) -> None:
        """Raises `TooManyAttempts` with the seconds to wait."""
        if not self._limiter.hit(self._item, username.casefold(), project_id):
            reset = self._limiter.get_window_stats(self._item, username.casefold(), project_id)
            raise TooManyAttempts(int(reset.reset_time - time.time()) + 1)
