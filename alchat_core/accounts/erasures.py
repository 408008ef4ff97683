"""Asks Papita, at the start and regularly, which users were deleted there, and deletes what is
here.

Papita calls an erasure final once no token of the user can be in use any more. Until then it is
done again each time, since something new may have come; then it is confirmed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from alchat_core.accounts.service import AccountService
from alchat_core.credential_manager import CredentialManager
from alchat_core.errors import RunError
from alchat_core.logs import describe
from alchat_core.papita import PapitaCallError

log = logging.getLogger(__name__)


class Erasures:
    """Built once per process; `seconds` lie between two questions, 0 never asks."""

    def __init__(
        self, accounts: AccountService, credentials: CredentialManager, seconds: float
    ) -> None:
        self._accounts = accounts
        self._credentials = credentials
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None
        self._complained = False

    def start(self) -> None:
        if self._seconds > 0:
            self._task = asyncio.create_task(self._ask_on(), name="erasures")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> None:
        """Raises `PapitaCallError` and `RunError` where Papita does not say."""
        for due in await self._credentials.erasures():
            await self._accounts.erase(due.user_id, due.username)
            if due.final:
                await self._credentials.confirm_erasure(due.user_id)
                log.info("all that there was of a deleted user is deleted")

    async def _ask_on(self) -> None:
        while True:
            try:
                await self.look()
            except (PapitaCallError, RunError):
                self._complain("Papita does not say which users were deleted")
            except Exception as error:  # noqa: BLE001 - the next look may do better
                self._complain(describe(error))
            else:
                self._complained = False
            await asyncio.sleep(self._seconds)

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("%s; it is asked again", what)
