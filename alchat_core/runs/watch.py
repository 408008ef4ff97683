"""Asks Papita, while answers are being written, whether their keys may still be used.

A key that is lent cannot be called back, but the answer that uses it can be stopped. The watch runs
only while there is something to ask about. A Papita that does not answer, or is too old to know the
question, stops nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from alchat_core.credential_manager import MAX_CHECKED, CredentialManager, Ended, Loan
from alchat_core.errors import RunError
from alchat_core.logs import describe
from alchat_core.metrics import Metrics
from alchat_core.papita import PapitaCallError

log = logging.getLogger(__name__)

_KEPT = "so this answer stops here. What is written so far is kept."
_DELETED = RunError(
    "credential-missing",
    f"The key for this answer is no longer there for you, {_KEPT}"
    " Add or choose another one under Credentials, then try again.",
)
_DISABLED = RunError(
    "credential-disabled",
    f"The key for this answer has been switched off, {_KEPT}"
    " Switch it on or add another one under Credentials, then try again.",
)

# What stops an answer. Signing out ("session-ended") does not: an answer, once begun, survives a
# closed laptop, and a session that idles away must not break off what is being written.
_STOPS = {
    "consent-required": RunError(
        "consent-required",
        f"You have taken back AL-Chat's permission to use your key, {_KEPT}"
        " Allow AL-Chat again if you want to go on, then try again.",
    ),
    "project-disabled": RunError(
        "project-disabled",
        f"An administrator has switched AL-Chat off, {_KEPT}"
        " Ask an administrator, and try again when it is on.",
    ),
    "user-disabled": RunError(
        "session-ended",
        f"Your account in Papita has been switched off, {_KEPT} Ask an administrator.",
    ),
    "credential-disabled": _DISABLED,
    "credential-missing": _DELETED,
    "credential-not-found": _DELETED,
    "credential-expired": RunError(
        "credential-expired",
        f"The key for this answer has passed its expiry date, {_KEPT}"
        " Replace it under Credentials, then try again.",
    ),
}


class LoanWatch:
    """`stop(run_id, why)` is called once for each run whose loan has ended.

    `seconds` lie between two questions; 0 never asks.
    """

    def __init__(
        self,
        credentials: CredentialManager,
        seconds: float,
        stop: Callable[[str, RunError], None],
    ) -> None:
        self._credentials = credentials
        self._seconds = seconds
        self._stop = stop
        self._loans: dict[tuple[str, str], tuple[str, str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._complained = False

    def begin(self, run_id: str, loan: Loan, purpose: str = "") -> None:
        """Watches a loan that a run uses, in place of an earlier one for the same purpose."""
        self._loans[run_id, purpose] = (loan.lease_id, loan.credential_id)
        if self._task is None and self._seconds > 0:
            self._task = asyncio.create_task(self._ask_on(), name="loan-watch")

    def end(self, run_id: str) -> None:
        for place in [place for place in self._loans if place[0] == run_id]:
            del self._loans[place]

    def describe_gauges(self, metrics: Metrics) -> None:
        metrics.gauge(
            "alchat_leases",
            "Loans of keys and tokens that are in use now.",
            lambda: len({lease for lease, _ in self._loans.values()}),
        )

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _ask_on(self) -> None:
        while self._loans:
            await asyncio.sleep(self._seconds)
            try:
                await self._ask()
            except PapitaCallError:
                self._complain("Papita does not say whether the keys in use may still be used")
            except Exception as error:  # noqa: BLE001 - the watch must outlive whatever happens
                self._complain(describe(error))
            else:
                self._complained = False
        self._task = None

    async def _ask(self) -> None:
        loans = sorted(set(self._loans.values()))
        for start in range(0, len(loans), MAX_CHECKED):
            for ended in await self._credentials.ended(loans[start : start + MAX_CHECKED]):
                self._halt(ended)

    def _halt(self, ended: Ended) -> None:
        why = _STOPS.get(ended.code)
        if why is None:
            return
        for (run_id, _), loan in tuple(self._loans.items()):
            if loan == (ended.lease_id, ended.credential_id):
                self.end(run_id)
                self._stop(run_id, why)

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("%s; answers go on", what)
