"""Tells Papita what was spent with the keys that it lent: later if need be, and once in effect.

What a run used is committed with the run's end. It stays in the outbox until Papita has confirmed
it; Papita counts each id once, so what is sent again after a kill does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, delete, select
from sqlalchemy.engine import Connection

from alchat_core.credential_manager import CredentialManager
from alchat_core.db.engine import Database
from alchat_core.db.tables import usage_outbox
from alchat_core.errors import RunError
from alchat_core.logs import describe
from alchat_core.papita import PapitaCallError
from alchat_core.usage.prices import Listed, Prices
from alchat_core.usage.spent import NANO, Spent, Use, both, outbox_rows
from sqlkit import Many

log = logging.getLogger(__name__)

AT_ONCE = 50
GATHER_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 60.0
STOP_SECONDS = 0.5

ADD = Many.insert(usage_outbox)
_OLDEST = select(usage_outbox).order_by(usage_outbox.c.at, usage_outbox.c.id).limit(AT_ONCE)
_CONFIRMED = delete(usage_outbox).where(usage_outbox.c.id == bindparam("confirmed"))


class _NotTaken(Exception):
    """Papita did not take the report; `final` if it never will take this very one."""

    def __init__(self, final: bool) -> None:
        super().__init__("Papita did not take the report")
        self.final = final


class Ledger:
    """Built once per process; `start()` before the first request, `stop()` before the end."""

    def __init__(self, database: Database, credentials: CredentialManager, prices: Prices) -> None:
        self._database = database
        self._credentials = credentials
        self._prices = prices
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._complained = False

    async def listed(self, base_url: str, names: Sequence[str]) -> tuple[Listed, ...]:
        """Models of a provider with their prices."""
        return await self._prices.listed(base_url, names)

    async def settle(
        self, uses: Sequence[Use], *, continued: bool, before: dict[str, Any] | None
    ) -> Spent:
        """What a run used, with its cost; `before` is the usage of the answer that it continued."""
        spent = Spent(await self._prices.priced(uses))
        if not continued:
            return Spent(spent.uses, spent.usage)
        return Spent(spent.uses, both(before, spent.usage) if spent.uses else None)

    async def file(self, name: str, uses: Sequence[Use], *, of_text: bool = True) -> None:
        """Puts what was used outside of runs into the outbox. What was not text costs what the
        settings say, if anything: the prices that are known besides are those of text.
        """
        priced = self._prices.priced if of_text else self._prices.priced_by_settings
        rows = outbox_rows(name, await priced(uses))
        if rows:
            await self._database.write(lambda connection: ADD.run(connection, *rows))
            self.wake()

    def wake(self) -> None:
        """There is something in the outbox."""
        self._wake.set()

    def start(self) -> None:
        self._wake.set()
        self._task = asyncio.create_task(self._report_on(), name="usage-outbox")

    async def stop(self) -> None:
        """Tries once more; what stays is reported by the next process."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._wake.is_set() and not self._complained:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(STOP_SECONDS):
                    while await self._report():
                        pass

    async def _report_on(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            # What ends within a moment goes together.
            await asyncio.sleep(GATHER_SECONDS)
            self._wake.clear()
            try:
                while await self._report():
                    pass
            except (PapitaCallError, RunError, _NotTaken):
                self._complain("Papita does not take what was spent")
            except Exception as error:  # noqa: BLE001 - the outbox must outlive whatever happens
                self._complain(describe(error))
            else:
                failures, self._complained = 0, False
                continue
            failures += 1
            self._wake.set()
            pause = min(LONGEST_PAUSE_SECONDS, 0.5 * 2 ** min(failures, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _report(self) -> bool:
        """Reports the oldest; whether there may be more. Raises `_NotTaken`, `PapitaCallError`."""
        rows = await self._database.read(lambda connection: connection.execute(_OLDEST).all())
        if not rows:
            return False
        try:
            await self._send(rows)
        except _NotTaken as error:
            if not error.final:
                raise
            # One that Papita cannot read must not hold up the others.
            for row in rows:
                try:
                    await self._send([row])
                except _NotTaken as again:
                    if not again.final:
                        raise
                    log.error("Papita refuses a report of what was spent; it is dropped")
                await self._forget([row])
            return len(rows) == AT_ONCE
        await self._forget(rows)
        return len(rows) == AT_ONCE

    async def _send(self, rows: Sequence[Any]) -> None:
        answer = await self._credentials.report([_record(row) for row in rows])
        unknown = answer.body.get("unknown")
        if answer.status in (413, 422):
            raise _NotTaken(final=True)
        if answer.status != 200 or not isinstance(unknown, list):
            raise _NotTaken(final=False)
        if unknown:
            log.warning("Papita knows no loan for %d reports of what was spent", len(unknown))

    async def _forget(self, rows: Sequence[Any]) -> None:
        def unit(connection: Connection) -> None:
            connection.execute(_CONFIRMED, [{"confirmed": row.id} for row in rows])

        await self._database.write(unit)

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("%s; it is tried again", what)


def _record(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "leaseId": row.lease_id,
        "credentialId": row.credential_id,
        "model": row.model,
        "promptTokens": row.prompt_tokens,
        "completionTokens": row.completion_tokens,
        "costUsd": None if row.cost_nano is None else row.cost_nano / NANO,
        "at": datetime.fromtimestamp(row.at / 1000, UTC).isoformat(),
    }
