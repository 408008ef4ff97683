"""What was used, as values. Amounts are billionths of a US dollar; unknown is None, never 0."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from alchat_core.credential_manager import Loan
from alchat_core.ids import now_ms
from alchat_core.providers.openai_compatible import Answer

NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Use:
    """One request that a provider took, and its tokens as the provider counted them."""

    lease_id: str
    credential_id: str
    base_url: str
    model: str
    tokens: Mapping[str, int] | None
    at: int
    cost_nano: int | None = None
    price_source: str | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run used, over all its requests."""

    uses: tuple[Use, ...] = ()
    message_usage: dict[str, Any] | None = None

    @property
    def usage(self) -> dict[str, Any] | None:
        """The sum of the tokens that are known, and `costUsd` where the cost of every request is.

        None where no request told its tokens.
        """
        known = [use.tokens for use in self.uses if use.tokens]
        if not known:
            return None
        cost = self.cost_nano if self.unpriced == 0 else None
        return {**_sum(known), "costUsd": None if cost is None else cost / NANO}

    @property
    def cost_nano(self) -> int | None:
        """The sum of what is known; None if nothing is."""
        known = [use.cost_nano for use in self.uses if use.cost_nano is not None]
        return sum(known) if known else None

    @property
    def unpriced(self) -> int:
        return sum(use.cost_nano is None for use in self.uses)

    @property
    def price_source(self) -> str | None:
        return next((use.price_source for use in reversed(self.uses) if use.price_source), None)

    def tokens(self, name: str) -> int:
        return sum((use.tokens or {}).get(name, 0) for use in self.uses)

    def columns(self) -> dict[str, Any]:
        """What the row of the run keeps."""
        return {
            "new_usage": self.usage,
            "new_requests": len(self.uses),
            "new_unpriced": self.unpriced,
            "new_prompt_tokens": self.tokens("promptTokens"),
            "new_completion_tokens": self.tokens("completionTokens"),
            "new_cost": self.cost_nano,
            "new_price_source": self.price_source,
            "new_message_usage": self.message_usage,
        }


NOTHING: Final = Spent()


def both(
    earlier: Mapping[str, Any] | None, later: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The usage of a message that two runs wrote. The cost is known where that of both is."""
    known = [one for one in (earlier, later) if one]
    if not known:
        return None
    costs = [one.get("costUsd") for one in known] if len(known) == 2 else [None]
    tokens = [{name: value for name, value in one.items() if name != "costUsd"} for one in known]
    whole = None
    if all(cost is not None for cost in costs):
        whole = sum(round(cost * NANO) for cost in costs if cost is not None) / NANO
    return {**_sum(tokens), "costUsd": whole}


@asynccontextmanager
async def counted(uses: list[Use], loan: Loan, model: str, answer: Answer) -> AsyncIterator[None]:
    """Adds to `uses` what the request inside used, however it ends, if the provider took it."""
    try:
        yield
    finally:
        if answer.taken:
            uses.append(
                Use(loan.lease_id, loan.credential_id, loan.base_url, model, answer.usage, now_ms())
            )


def outbox_rows(name: str, uses: Sequence[Use]) -> list[dict[str, Any]]:
    """What Papita is to be told. `name` is that of the run; each request gets its number."""
    return [
        {
            "id": f"{name}-{number}",
            "lease_id": use.lease_id,
            "credential_id": use.credential_id,
            "model": use.model[:200],
            "prompt_tokens": (use.tokens or {}).get("promptTokens"),
            "completion_tokens": (use.tokens or {}).get("completionTokens"),
            "cost_nano": use.cost_nano,
            "at": use.at,
        }
        for number, use in enumerate(uses, 1)
    ]


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found.get(name, 0) + value
    return found
