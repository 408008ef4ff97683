"""Whether things take the same time, as somebody would find out who tries each of them often.

    known, unknown = times_of(try_known, try_unknown)
    assert abs(welch(known, unknown)) < SAME

Welch's t is above 4.5 by chance in one of 100,000 comparisons, so nothing is tried again.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

SAME = 4.5
TIMES = 200


def times_of(*calls: Callable[[], object], times: int = TIMES) -> list[list[float]]:
    """The seconds that each call takes, each time. They take turns, in an order that is by chance,
    so that what else the machine does hits all alike.
    """
    taken: list[list[float]] = [[] for _ in calls]
    chance = random.Random(7)
    order = list(range(len(calls)))
    for turn in range(-3, times):
        chance.shuffle(order)
        for place in order:
            begin = time.perf_counter()
            calls[place]()
            if turn >= 0:  # before, what is made once is made: connections, statements
                taken[place].append(time.perf_counter() - begin)
    return taken


def welch(one: list[float], other: list[float]) -> float:
    """Welch's t statistic of two samples (B. L. Welch, Biometrika 34, 1947)."""
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return float((statistics.fmean(one) - statistics.fmean(other)) / spread**0.5)
