"""The time, as an argument.

Services take a `Clock`, so that a test can move it; everything is UTC and timezone-aware.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)
