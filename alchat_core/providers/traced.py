"""A request to a provider as a span, by OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from alchat_core import telemetry
from alchat_core.credential_manager import Loan

if TYPE_CHECKING:
    from alchat_core.providers.openai_compatible import Answer

# Where the conventions have another word for it than Papita.
_PROVIDERS = {
    "azure-openai": "azure.ai.openai",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
_PARAMETERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
}


async def traced(
    pieces: AsyncGenerator[str, None],
    loan: Loan,
    model: str,
    answer: Answer,
    parameters: Mapping[str, Any],
) -> AsyncGenerator[str, None]:
    """The same pieces; the span ends with them."""
    place = urlsplit(loan.base_url)
    about = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(loan.credential_type, loan.credential_type),
        "gen_ai.request.model": model,
        "gen_ai.request.stream": True,
        "server.address": place.hostname,
        "server.port": place.port or (443 if place.scheme == "https" else 80),
        "alchat.credential.id": loan.credential_id,
        "alchat.lease.id": loan.lease_id,
        **{_PARAMETERS[name]: value for name, value in parameters.items() if name in _PARAMETERS},
    }
    begin, first = time.monotonic(), True
    with telemetry.span(f"chat {model}", about, kind="client", current=False) as span:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if first:
                        first = False
                        spent = round(time.monotonic() - begin, 6)
                        span.add("gen_ai.response.time_to_first_chunk", spent)
                    yield piece
        finally:
            used = answer.usage or {}
            span.add("gen_ai.usage.input_tokens", used.get("promptTokens"))
            span.add("gen_ai.usage.output_tokens", used.get("completionTokens"))
