"""Calls that wait for their user to say yes or no. They live in the process, as their runs do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from alchat_core.auth import User
from alchat_core.errors import CallNotWaiting, RunError
from alchat_core.tools.models import Offer
from alchat_core.tools.servers import ToolServerService

Decision = Literal["once", "always", "deny"]


@dataclass(frozen=True, slots=True)
class Decided:
    """`user` carries the token with which it was decided, the newest there is."""

    decision: Decision
    user: User


@dataclass(slots=True)
class _Waiting:
    offer: Offer
    answer: asyncio.Future[Decided]


class Approvals:
    """Built once per process. `seconds` are how long a call waits."""

    def __init__(self, servers: ToolServerService, seconds: float) -> None:
        self._servers = servers
        self._seconds = seconds
        self._waiting: dict[tuple[str, str], _Waiting] = {}

    def expect(self, run_id: str, call_id: str, offer: Offer) -> None:
        """From now on it can be decided; `wait` has to follow."""
        answer: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
        self._waiting[run_id, call_id] = _Waiting(offer, answer)

    async def wait(self, run_id: str, call_id: str) -> Decided:
        """Raises `RunError` where nobody decides in time."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._waiting[run_id, call_id].answer
        except TimeoutError:
            raise RunError("approval-timeout") from None
        finally:
            self._waiting.pop((run_id, call_id), None)

    async def decide(self, user: User, run_id: str, call_id: str, decision: Decision) -> None:
        """The run has to be the user's. Raises `CallNotWaiting`."""
        waiting = self._waiting.get((run_id, call_id))
        if waiting is None or waiting.answer.done():
            raise CallNotWaiting
        if decision == "always":
            await self._servers.approve(user.id, waiting.offer.server.id, waiting.offer.tool)
        if waiting.answer.done():
            raise CallNotWaiting
        waiting.answer.set_result(Decided(decision, user))

    def forget(self, run_id: str) -> None:
        """The run has ended."""
        for place in [place for place in self._waiting if place[0] == run_id]:
            self._waiting.pop(place).answer.cancel()
