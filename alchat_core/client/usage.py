"""Calls about tokens and cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from alchat_core.client.calls import Calls, given

Group = Literal["day", "model", "conversation", "credential"]


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One group. `cost_usd` is the sum of what is known, without `unpriced_requests`.

    `label` is the title of a conversation.
    """

    key: str
    label: str | None
    requests: int
    unpriced_requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


class UsageCalls(Calls):
    def usage(
        self, group: Group = "day", *, since: date | None = None, until: date | None = None
    ) -> tuple[UsageLine, ...]:
        """The days from `since` to `until`, UTC, both included; without `since` the last 30."""
        found = self._call(
            "GET",
            "/api/usage",
            params=given(
                group=group,
                since=since and since.isoformat(),
                until=until and until.isoformat(),
            ),
        )
        return tuple(
            UsageLine(
                item["key"],
                item["label"],
                item["requests"],
                item["unpricedRequests"],
                item["promptTokens"],
                item["completionTokens"],
                item["costUsd"],
            )
            for item in found["usage"]
        )
