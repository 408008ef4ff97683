"""Budgets: how much may be spent with a credential in a day or a month, and how much of it is.

Pure values, in billionths of a US dollar. Days and months are those of UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from typing import Any, Final

from papita_core.errors import BudgetExceeded
from papita_core.projects.catalogue import PROJECTS

NANO: Final = 1_000_000_000
DAY, MONTH = "day", "month"
PERIODS: Final = (DAY, MONTH)
LEAST_NANO: Final = NANO // 100
MOST_NANO: Final = 1_000_000 * NANO
WARN_AT: Final = 0.8


class Keep(Enum):
    """What stands for the budget that is there already."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Budget:
    """`period` is day or month. With a project, only what that one spends counts, and only it is
    refused a loan.
    """

    limit_nano: int
    period: str
    project_id: str | None = None

    def counts_for(self, project_id: str) -> bool:
        return self.project_id in (None, project_id)


@dataclass(frozen=True, slots=True)
class Spending:
    """A budget and what is spent of it in the period that began on `since`.

    `unpriced` requests are in it with nothing, since nobody knows what they cost.
    """

    budget: Budget
    spent_nano: int
    unpriced: int
    since: date

    @property
    def until(self) -> datetime:
        """When the budget begins anew."""
        following = self.since + timedelta(days=1 if self.budget.period == DAY else 32)
        first = following if self.budget.period == DAY else following.replace(day=1)
        return datetime.combine(first, time(), UTC)

    @property
    def exceeded(self) -> bool:
        return self.spent_nano >= self.budget.limit_nano

    @property
    def warning(self) -> bool:
        """Whether four fifths or more are spent."""
        return self.spent_nano >= self.budget.limit_nano * WARN_AT

    def as_json(self) -> dict[str, Any]:
        return {
            "limitUsd": usd(self.budget.limit_nano),
            "spentUsd": usd(self.spent_nano),
            "period": self.budget.period,
            "warning": self.warning,
            "beginsAnewAt": self.until.isoformat(),
        }


def usd(nano: int) -> float:
    return nano / NANO


def nano(dollars: float) -> int:
    return round(dollars * NANO)


def in_words(amount_nano: int) -> str:
    """`$4.13`; less than a cent with as many places as it takes."""
    if 0 < amount_nano < LEAST_NANO:
        return f"${usd(amount_nano):.6f}".rstrip("0")
    return f"${usd(amount_nano):,.2f}"


def begin(period: str, now: datetime) -> date:
    """The first day of the period that `now` is in."""
    today = now.astimezone(UTC).date()
    return today if period == DAY else today.replace(day=1)


def budget_of(row: Any) -> Budget | None:
    """The budget on a row of credentials."""
    if row.budget_nano is None:
        return None
    return Budget(row.budget_nano, row.budget_period, row.budget_project_id)


def spending_of(row: Any, now: datetime) -> Spending | None:
    """What is spent of the budget on a row; what an earlier period left there does not count."""
    budget = budget_of(row)
    if budget is None:
        return None
    since = begin(budget.period, now)
    if row.spent_since != since:
        return Spending(budget, 0, 0, since)
    return Spending(budget, row.spent_nano, row.spent_unpriced, since)


def refusal(spending: Spending | None, project_id: str, now: datetime) -> BudgetExceeded | None:
    """Why nothing is lent to a project now; None where the budget allows it."""
    if spending is None or not spending.exceeded or not spending.budget.counts_for(project_id):
        return None
    budget, until = spending.budget, spending.until
    which = "today" if budget.period == DAY else "this month"
    whose = ""
    if budget.project_id is not None:
        titles = {project.id: project.title for project in PROJECTS}
        whose = f" for {titles.get(budget.project_id, 'this project')}"
    return BudgetExceeded(
        f"The budget of the credential{whose} is used up: {in_words(spending.spent_nano)} of"
        f" {in_words(budget.limit_nano)} {which}. It begins anew on"
        f" {until.day} {until:%B %Y}, 00:00 UTC; until then its owner can raise it in the"
        " credentials editor, or add another credential.",
        retry_after=int((until - now).total_seconds()) + 1,
        budget=spending.as_json(),
    )


def wrong(budget: Budget, project_id: str | None) -> str | None:
    """What keeps a credential that is for `project_id` from having this budget."""
    if not LEAST_NANO <= budget.limit_nano <= MOST_NANO:
        return "A budget is an amount from 0.01 to 1,000,000 US dollars."
    if budget.period not in PERIODS:
        return "A budget is for a day or for a month."
    if budget.project_id is not None and budget.project_id not in {it.id for it in PROJECTS}:
        return "There is no such project to have a budget for."
    if project_id is not None and budget.project_id not in (None, project_id):
        return "The credential is for one project, and its budget for another. Change one of them."
    return None
