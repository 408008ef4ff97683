"""What a user's answers cost, summed by day, model, conversation or credential.

It counts what is there: a conversation that is deleted takes its figures along. Papita keeps the
whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, func, literal_column, null, select
from sqlalchemy.engine import Connection

from alchat_core.conversations.models import UNTITLED
from alchat_core.db.engine import Database
from alchat_core.db.tables import conversations, runs
from alchat_core.errors import InvalidInput
from alchat_core.usage.spent import NANO

DAY_MS = 24 * 3600 * 1000
DEFAULT_DAYS = 30
MAX_DAYS = 366
MAX_LINES = 1000

# Written out: PostgreSQL would take two bound ones for two different expressions.
_DAY: ColumnElement[int] = runs.c.created_at // literal_column(str(DAY_MS), BigInteger)
GROUPS: dict[str, ColumnElement[Any]] = {
    "day": _DAY,
    "model": runs.c.model,
    "conversation": runs.c.conversation_id,
    "credential": runs.c.credential_id,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One group. `label` is the title of a conversation."""

    key: str
    label: str | None
    requests: int
    unpriced: int
    prompt_tokens: int
    completion_tokens: int
    cost_nano: int

    def as_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "label": self.label,
            "requests": self.requests,
            "unpricedRequests": self.unpriced,
            "promptTokens": self.prompt_tokens,
            "completionTokens": self.completion_tokens,
            "costUsd": self.cost_nano / NANO,
        }


class UsageService:
    """Built once per process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(
        self, owner: str, group: str, *, since: date | None = None, until: date | None = None
    ) -> list[Line]:
        """The days from `since` to `until`, UTC, both included; without `since` the last 30.

        Days ascending, the rest by cost, at most 1,000. Raises `InvalidInput`.
        """
        last = until or datetime.now(UTC).date()
        first = since or last - timedelta(days=min(DEFAULT_DAYS, last.toordinal()) - 1)
        if not 0 <= (last - first).days < MAX_DAYS:
            raise InvalidInput(f"since: ask for 1 to {MAX_DAYS} days, the first one first.")
        column = GROUPS[group]
        sums = [
            func.coalesce(func.sum(it), 0)
            for it in (
                runs.c.requests,
                runs.c.unpriced,
                runs.c.prompt_tokens,
                runs.c.completion_tokens,
                runs.c.cost_nano,
            )
        ]
        by_title = group == "conversation"
        label = func.max(conversations.c.title) if by_title else null()
        query = (
            select(column, label, *sums)
            .join(conversations, conversations.c.id == runs.c.conversation_id)
            .where(
                runs.c.owner == owner,
                runs.c.created_at >= _ms(first),
                runs.c.created_at < _ms(last) + DAY_MS,
                runs.c.requests > 0,
                conversations.c.deleted_at.is_(None),
            )
            .group_by(column)
            .order_by(column if group == "day" else sums[-1].desc(), column)
            .limit(MAX_LINES)
        )

        def unit(connection: Connection) -> list[Line]:
            return [
                Line(
                    _key(key, group),
                    title or UNTITLED if by_title else None,
                    *(int(figure) for figure in figures),
                )
                for key, title, *figures in connection.execute(query)
            ]

        return await self._database.read(unit, slow=True)


def _key(key: Any, group: str) -> str:
    if group != "day":
        return str(key or "")
    return datetime.fromtimestamp(int(key) * DAY_MS // 1000, UTC).date().isoformat()


def _ms(day: date) -> int:
    return round(datetime.combine(day, time(), UTC).timestamp() * 1000)
