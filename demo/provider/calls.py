"""The model `tools`: it calls what the last question tells it to call, then says what came back.

    call get_current_time {"timezone": "Europe/Madrid"}
    call get_current_time {"timezone": "Asia/Tokyo"}
    then
    call git_log {"repo_path": "."}

are two rounds, the first with two calls at once. `for ever` as the last line begins anew each time.
"""

from __future__ import annotations

import re
from typing import Any

from demo.provider.scripts import Script, tokenise

SAID = "Let me look. "
_CALL = re.compile(r"^call (\S+) ?(.*)$")


def script_of(messages: list[Any], *, may_call: bool) -> Script:
    """The next step of an answer: calls, or the text that ends it."""
    said = [one for one in messages if isinstance(one, dict)]
    last = max((n for n, one in enumerate(said) if one.get("role") == "user"), default=0)
    question = str(said[last].get("content") or "") if said else ""
    since = said[last + 1 :]
    done = sum(bool(one.get("tool_calls")) for one in since)
    rounds = _rounds(question)
    if may_call and rounds and ("\nfor ever" in question or done < len(rounds)):
        return Script(
            tokens=tokenise(SAID), calls=tuple(rounds[done % len(rounds)]), ending="tool_calls"
        )
    results = [str(one.get("content")) for one in since if one.get("role") == "tool"]
    earlier = sum(one.get("role") == "tool" for one in said[:last])
    text = f"{len(results)} results, {earlier} earlier: " + " | ".join(results)
    return Script(tokens=tokenise(text))


def _rounds(question: str) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for part in re.split(r"^then$", question, flags=re.MULTILINE):
        calls = [_CALL.match(line.strip()) for line in part.splitlines()]
        found.append([(one[1], one[2]) for one in calls if one])
    return [one for one in found if one]


def deltas(calls: tuple[tuple[str, str], ...], call_id: int) -> list[dict[str, Any]]:
    """As OpenAI streams them: the name first, then the arguments in pieces."""
    found: list[dict[str, Any]] = []
    for index, (name, arguments) in enumerate(calls):
        half = len(arguments) // 2
        head = {"name": name, "arguments": ""}
        found.append(
            {"index": index, "id": f"call_{call_id}_{index}", "type": "function", "function": head}
        )
        found += [
            {"index": index, "function": {"arguments": piece}}
            for piece in (arguments[:half], arguments[half:])
        ]
    return found
