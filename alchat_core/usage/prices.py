"""What a request cost, by the prices in the settings and then by those of `genai-prices`.

The library's data are those that were installed with it; nothing is fetched. It is imported when a
provider that it may know is asked for the first time, by a thread: that takes most of a second and
twenty megabytes.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from alchat_core.usage.spent import NANO, Use

log = logging.getLogger(__name__)

LIBRARY: Final = "genai-prices"
OWN: Final = "settings"
MILLION: Final = 1_000_000
# More than this for one request is a fault of somebody's figures.
MOST_NANO: Final = 1_000_000 * NANO


@dataclass(frozen=True, slots=True)
class Listed:
    """A model with what is known of it: US dollars per million tokens, and its window in tokens."""

    id: str
    input_usd: float | None = None
    output_usd: float | None = None
    context_window: int | None = None


class Prices:
    """Built once per process. `own` maps a model to US dollars per million tokens, in and out."""

    def __init__(self, own: Mapping[str, tuple[float, float]]) -> None:
        self._own = own
        self._library: Any = None
        self._source = ""

    async def priced(self, uses: Sequence[Use]) -> tuple[Use, ...]:
        """The same with their costs, where those are known."""
        if self._library is None and any(self._is_of_library(use) for use in uses):
            await asyncio.to_thread(self._load)
        return tuple(self._priced(use) for use in uses)

    async def priced_by_settings(self, uses: Sequence[Use]) -> tuple[Use, ...]:
        """The same, where only the prices in the settings hold."""
        return tuple(self._priced(use) if use.model in self._own else use for use in uses)

    async def listed(self, base_url: str, names: Sequence[str]) -> tuple[Listed, ...]:
        """The models with their prices at that address."""
        ask = base_url.startswith("https://")
        if not ask:
            return tuple(self._listed("", name) for name in names)
        return await asyncio.to_thread(
            lambda: tuple(self._listed(base_url, name) for name in names)
        )

    def _listed(self, base_url: str, name: str) -> Listed:
        own = self._own.get(name)
        if own is not None or not base_url:
            return Listed(name, *(own or ()))
        if self._library is None:
            self._load()
        # So few tokens that no price for long prompts applies.
        few = self._library.Usage(input_tokens=1000, output_tokens=1000)
        try:
            price = self._library.calc_price(few, name, provider_api_url=base_url)
        except Exception:  # noqa: BLE001 - a price is no reason to lose the list
            return Listed(name)
        return Listed(
            name,
            round(float(price.input_price) * 1000, 4),
            round(float(price.output_price) * 1000, 4),
            price.model.context_window,
        )

    def _is_of_library(self, use: Use) -> bool:
        """Whether it is worth looking: every provider in the list has an address with https."""
        return (
            bool(use.tokens) and use.model not in self._own and use.base_url.startswith("https://")
        )

    def _priced(self, use: Use) -> Use:
        prompt, completion = _in_and_out(use.tokens or {})
        if prompt is None or completion is None:
            return use
        own = self._own.get(use.model)
        if own is not None:
            cost = round((prompt * own[0] + completion * own[1]) * (NANO // MILLION))
            return replace(use, cost_nano=cost, price_source=OWN)
        if self._library is None or not self._is_of_library(use):
            return use
        found = self._look_up(use, prompt, completion)
        if found is None or not 0 <= found <= MOST_NANO:
            return use
        return replace(use, cost_nano=found, price_source=self._source)

    def _look_up(self, use: Use, prompt: int, completion: int) -> int | None:
        cached = min((use.tokens or {}).get("cachedTokens", 0), prompt)
        try:
            price = self._library.calc_price(
                self._library.Usage(
                    input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached
                ),
                use.model,
                provider_api_url=use.base_url,
                genai_request_timestamp=datetime.fromtimestamp(use.at / 1000, UTC),
            )
            cost: int = round(price.total_price * NANO)
            return cost
        except LookupError:
            return None
        except Exception as error:  # noqa: BLE001 - a price is no reason to lose an answer
            log.warning("no price: %s", type(error).__name__)
            return None

    def _load(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import genai_prices

            # The first look-up builds the library's tables.
            genai_prices.calc_price(
                genai_prices.Usage(input_tokens=1), "gpt-4o", provider_id="openai"
            )
        self._source = f"{LIBRARY} {version(LIBRARY)}"[:40]
        self._library = genai_prices


def _in_and_out(tokens: Mapping[str, int]) -> tuple[int | None, int | None]:
    """Tokens to be paid for. Some providers leave what was thought out of the completion."""
    prompt, completion = tokens.get("promptTokens"), tokens.get("completionTokens")
    if prompt is None or completion is None or prompt < 0 or completion < 0:
        return None, None
    return prompt, max(completion, tokens.get("totalTokens", 0) - prompt)
