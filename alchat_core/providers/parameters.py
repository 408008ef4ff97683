"""The parameters of an answer under the names that a provider knows, and which models refuse some.

On our side they are `temperature`, `topP`, `maxTokens`, `seed`, `reasoningEffort` and `stop`. Only
what a family of models is documented to refuse is refused here; anything else is the provider's to
say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alchat_core.errors import RunError

_NAMES = {
    "temperature": "temperature",
    "topP": "top_p",
    "maxTokens": "max_tokens",
    "seed": "seed",
    "reasoningEffort": "reasoning_effort",
    "stop": "stop",
}
THEIRS = {theirs: ours for ours, theirs in _NAMES.items()} | {
    "max_completion_tokens": "maxTokens",
    # In the Responses API.
    "max_output_tokens": "maxTokens",
    "reasoning.effort": "reasoningEffort",
}

# OpenAI's models that think before they answer count what they think, and have a name for that.
_THINKING = re.compile(r"(o\d|gpt-5)(?![\da-z])(?!.*-chat)")
# Of those, the ones that always think; from gpt-5.1 on thinking can be switched off.
_ALWAYS_THINKING = re.compile(r"(o\d|gpt-5)(?![.\da-z])(?!.*-chat)")
_NEVER_THINKING = re.compile(r"(gpt-(3\.5|4)|chatgpt)(?!\d)")


def sent_as(model: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent: `max_tokens` is `max_completion_tokens` for models that think."""
    found = {_NAMES[name]: value for name, value in parameters.items()}
    if "max_tokens" in found and thinks(model):
        found["max_completion_tokens"] = found.pop("max_tokens")
    return found


def thinks(model: str) -> bool:
    """Whether it is one of OpenAI's models that can think before they answer."""
    return bool(_THINKING.match(_family(model)))


def parameter_refused(name: str) -> RunError:
    """Of one of our own parameters, by its name on the wire."""
    return RunError(
        "bad-request",
        f"The model does not take the parameter {name} as it was sent."
        " Change it, leave it out or choose another model, then try again.",
    )


def refused(model: str, parameters: Mapping[str, Any]) -> str | None:
    """The first of our parameters that this model is known to refuse."""
    family = _family(model)
    if _ALWAYS_THINKING.match(family):
        known: tuple[str, ...] = ("temperature", "topP", "stop")
    elif _NEVER_THINKING.match(family):
        known = ("reasoningEffort",)
    else:
        return None
    return next((name for name in known if name in parameters), None)


def effective(
    model: str | None, defaults: Mapping[str, Any] | None, given: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """What was given, and beside it the defaults, except those that the model is known to refuse.

    None if that is nothing.
    """
    found = {**(defaults or {}), **(given or {})}
    for name in defaults or {}:
        if model and name not in (given or {}) and refused(model, {name: None}):
            del found[name]
    return found or None


def _family(model: str) -> str:
    """Gateways put the vendor before the name: `openai/o3`."""
    return model.rpartition("/")[2].lower()
