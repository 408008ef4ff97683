"""The Responses API: how a request for a chat completion is put there, and how its stream is read.

Nothing is kept at the provider (`store: false`), so each request carries the whole conversation, as
with chat completions. What the API has no place for, `seed` and `stop`, cannot be asked there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from alchat_core.providers.lines import (
    MAX_CALL_CHARS,
    MAX_CALLS,
    Called,
    MalformedStreamError,
    ProviderReportedError,
    StreamReader,
)

PATH = "/responses"

_SAME = ("temperature", "top_p", "tool_choice")
_MISSING = ("seed", "stop")
# What OpenAI calls a refusal by policy here; with chat completions it has one word for it.
_BY_POLICY = frozenset(
    {"invalid_prompt", "bio_policy", "misalignment_policy_violation"}
    | {"image_content_policy_violation"}
)


def missing(parameters: Mapping[str, Any]) -> str | None:
    """The first parameter, by its name in chat completions, that cannot be sent."""
    return next((name for name in _MISSING if name in parameters), None)


def body_of(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    *,
    summary: bool,
) -> dict[str, Any]:
    """The body of a streamed request; messages, tools and parameters are as in chat completions.

    `summary` asks for a summary of what the model thinks; models that do not think refuse that.
    """
    body: dict[str, Any] = {"model": model, "stream": True, "store": False}
    begin = 0
    if messages and messages[0]["role"] == "system":
        body["instructions"] = messages[0]["content"]
        begin = 1
    body["input"] = [item for message in messages[begin:] for item in _items(message)]
    body |= {name: parameters[name] for name in _SAME if name in parameters}
    for name in ("max_tokens", "max_completion_tokens"):
        if name in parameters:
            body["max_output_tokens"] = parameters[name]
    reasoning: dict[str, Any] = {}
    if "reasoning_effort" in parameters:
        reasoning["effort"] = parameters["reasoning_effort"]
    if summary:
        reasoning["summary"] = "auto"
    if reasoning:
        body["reasoning"] = reasoning
    if "tools" in parameters:
        # Without a word the schema would count as strict, which most are not.
        body["tools"] = [
            {"type": "function", **tool["function"], "strict": False}
            for tool in parameters["tools"]
        ]
    return body


def _items(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What one message is here: itself, the calls in it, or the result of one."""
    if message["role"] == "tool":
        yield {
            "type": "function_call_output",
            "call_id": message["tool_call_id"],
            "output": message["content"],
        }
        return
    if message["content"]:
        yield {"role": message["role"], "content": _content(message)}
    for call in message.get("tool_calls", ()):
        yield {"type": "function_call", "call_id": call["id"], **call["function"]}


def _content(message: Mapping[str, Any]) -> Any:
    content = message["content"]
    if isinstance(content, str):
        return content
    kind = "output_text" if message["role"] == "assistant" else "input_text"
    return [
        {"type": kind, "text": part["text"]}
        if part["type"] == "text"
        else {"type": "input_image", "image_url": part["image_url"]["url"], "detail": "auto"}
        for part in content
    ]


@dataclass(slots=True)
class ResponseReader(StreamReader):
    """Reads the events of a response; the fields are those of a chat completion."""

    # The events at the end repeat the whole answer, and what was asked.
    longest: ClassVar[int] = 16 * 1024 * 1024

    _text_place: Any = None
    _thought_place: Any = None
    _any_text: bool = False

    def _event(self, event: dict[str, Any], pieces: list[str]) -> None:
        self.any_event = True
        kind = event.get("type")
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            self._text(event, pieces)
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            self._thought(event)
        elif kind == "response.function_call_arguments.delta":
            self._called = True
        elif kind == "response.output_item.done":
            self._item(event.get("item"))
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._ended(kind, event.get("response"), pieces)
        elif kind == "error" or event.get("error"):
            raise ProviderReportedError(_error(event.get("error") or event))

    def _text(self, event: dict[str, Any], pieces: list[str]) -> None:
        delta = event.get("delta")
        if not isinstance(delta, str) or not delta:
            return
        place = event.get("output_index")
        if self._any_text and place != self._text_place:
            pieces.append("\n\n")
        self._any_text, self._text_place = True, place
        pieces.append(delta)

    def _thought(self, event: dict[str, Any]) -> None:
        delta = event.get("delta")
        if not isinstance(delta, str) or not delta:
            return
        place = (event.get("output_index"), event.get("summary_index"))
        if self._thought_place is not None and place != self._thought_place:
            self._thoughts.append("\n\n")
        self._thought_place = place
        self._thoughts.append(delta)

    def _item(self, item: Any) -> None:
        """A finished part of the answer; text has come in pieces, calls are taken whole."""
        if not isinstance(item, dict) or item.get("type") != "function_call":
            return
        found = [item.get(name) for name in ("call_id", "name", "arguments")]
        named, name, arguments = (one if isinstance(one, str) else "" for one in found)
        if len(self.calls) >= MAX_CALLS or len(arguments) > MAX_CALL_CHARS:
            raise MalformedStreamError
        self._called = True
        self.calls.append(Called(named, name[:200], arguments))

    def _ended(self, kind: str, response: Any, pieces: list[str]) -> None:
        response = response if isinstance(response, dict) else {}
        usage = response.get("usage")
        if isinstance(usage, dict):
            self.usage = _usage(usage) or self.usage
        if kind == "response.failed":
            raise ProviderReportedError(_error(response.get("error")))
        self.done, self.finish_reason = True, "stop"
        if kind == "response.incomplete":
            details = response.get("incomplete_details")
            filtered = isinstance(details, dict) and details.get("reason") == "content_filter"
            self.finish_reason = "content_filter" if filtered else "length"
        if not self._any_text and not self.calls:
            self._whole(response.get("output"), pieces)

    def _whole(self, output: Any, pieces: list[str]) -> None:
        """What some gateways send all at once, at the end."""
        for item in output if isinstance(output, list) else ():
            self._item(item)
            content = item.get("content") if isinstance(item, dict) else None
            if not isinstance(content, list) or item.get("type") != "message":
                continue
            for part in content:
                text = part.get("text") if isinstance(part, dict) else None
                if isinstance(text, str):
                    pieces.append(text)


def _error(error: Any) -> Any:
    """An error in words that chat completions know, too."""
    code = error.get("code") if isinstance(error, dict) else None
    if code in _BY_POLICY:
        return {**error, "code": "content_filter"}
    if isinstance(code, str) and "image" in code:
        return {**error, "code": 400}
    return error or {"code": "server_error"}


def _usage(raw: dict[str, Any]) -> dict[str, int] | None:
    found = {
        ours: raw[theirs]
        for ours, theirs in (
            ("promptTokens", "input_tokens"),
            ("completionTokens", "output_tokens"),
            ("totalTokens", "total_tokens"),
        )
        if isinstance(raw.get(theirs), int)
    }
    for ours, theirs, name in (
        ("reasoningTokens", "output_tokens_details", "reasoning_tokens"),
        ("cachedTokens", "input_tokens_details", "cached_tokens"),
    ):
        details = raw.get(theirs)
        if isinstance(details, dict) and isinstance(details.get(name), int):
            found[ours] = details[name]
    return found or None
