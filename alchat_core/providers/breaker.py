"""A breaker per origin: a provider that is down is left alone for some seconds.

It opens after so many failures in a row of the kind that says nothing about a key (no connection,
5xx). While it is open nobody asks; after `seconds` one answer tries, and its outcome decides. The
state is of this process alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from alchat_core.errors import RunError
from alchat_core.providers.backoff import in_words

MAX_ORIGINS = 1000


@dataclass(slots=True)
class _Trouble:
    failures: int = 0
    open_until: float = 0.0
    trial: bool = False


class Breaker:
    """`failures` in a row open it for `seconds`; 0 failures never do."""

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}

    @contextmanager
    def asking(self, origin: str, is_down: Callable[[Exception], bool]) -> Iterator[None]:
        """Around one request. An exception that `is_down` calls so is a failure of the origin, any
        other one an answer; being cancelled is neither. Raises `RunError` while it is open.
        """
        trouble = self._troubles.get(origin)
        trying = trouble is not None and self._enter(trouble)
        try:
            yield
        except Exception as error:
            if is_down(error):
                self._failed(origin)
            else:
                self._troubles.pop(origin, None)
            raise
        else:
            self._troubles.pop(origin, None)
        finally:
            if trying and trouble is not None:
                trouble.trial = False

    def _enter(self, trouble: _Trouble) -> bool:
        """Whether this request is the one that tries."""
        if not self._limit or trouble.failures < self._limit:
            return False
        left = trouble.open_until - self._clock()
        if left <= 0 and not trouble.trial:
            trouble.trial = True
            return True
        seconds = max(1, math.ceil(left))
        raise RunError(
            "provider-unreachable",
            "The provider has failed several times in a row, so AL-Chat is giving it a rest."
            f" Try again {in_words(seconds)}.",
            retry_after=seconds,
        )

    def _failed(self, origin: str) -> None:
        trouble = self._troubles.setdefault(origin, _Trouble())
        trouble.failures += 1
        if trouble.failures >= self._limit:
            trouble.open_until = self._clock() + self._seconds
        if len(self._troubles) > MAX_ORIGINS:
            del self._troubles[next(iter(self._troubles))]
