"""Reads the stream of an OpenAI-compatible provider from raw bytes, and forgives what it can.

Comments, `\\r\\n`, blank lines, other fields, empty choices, a missing `[DONE]` and null contents
are all taken in their stride; an error object in mid-stream is handed on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

MAX_LINE_BYTES = 1024 * 1024
MAX_CALLS = 128
MAX_CALL_CHARS = 1_000_000


class MalformedStreamError(Exception):
    """A data line that is not JSON, or one that does not end."""


class ProviderReportedError(Exception):
    """The provider sent an error object in mid-stream."""

    def __init__(self, error: Any) -> None:
        super().__init__("the provider reported an error")
        self.error = error


@dataclass(slots=True)
class Called:
    """A tool that the model wants to be called. `arguments` should be JSON; `extra` is what some
    providers want back with the call.
    """

    id: str
    name: str
    arguments: str = ""
    extra: Any = None
    index: int | None = None


@dataclass(slots=True)
class StreamReader:
    """Feed it bytes as they come; what has been learnt so far lies in the fields."""

    longest: ClassVar[int] = MAX_LINE_BYTES

    finish_reason: str | None = None
    done: bool = False
    usage: dict[str, int] | None = None
    any_event: bool = False
    calls: list[Called] = field(default_factory=list)
    _called: bool = False
    _rest: bytes = field(default=b"", repr=False)
    _pieces: list[str] = field(default_factory=list, repr=False)
    _thoughts: list[str] = field(default_factory=list, repr=False)

    def feed(self, chunk: bytes) -> None:
        """Takes bytes; the text that they complete waits for `take`.

        Raises `MalformedStreamError` and `ProviderReportedError`; text before the fault stands.
        """
        data = self._rest + chunk if self._rest else chunk
        if len(data) > self.longest:
            raise MalformedStreamError
        lines = data.split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._line(line)

    def end(self) -> None:
        """Takes what is left: a last line without a line end."""
        rest, self._rest = self._rest, b""
        self._line(rest)

    def take(self) -> str:
        """The text since the last call."""
        text = "".join(self._pieces)
        self._pieces.clear()
        return text

    def take_thoughts(self) -> str:
        """What the model thought since the last call, where the provider shows it."""
        if not self._thoughts:
            return ""
        thoughts = "".join(self._thoughts)
        self._thoughts.clear()
        return thoughts

    def take_called(self) -> bool:
        """Whether a part of a call has arrived since the last call of this method."""
        called, self._called = self._called, False
        return called

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:") or self.done:
            return
        payload = line[5:].strip()
        if not payload:
            return
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            raise MalformedStreamError from None
        if isinstance(event, dict):
            self._event(event, self._pieces)

    def _event(self, event: dict[str, Any], pieces: list[str]) -> None:
        self.any_event = True
        error = event.get("error")
        if error:
            raise ProviderReportedError(error)
        choices = event.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            choice = choices[0]
            delta = choice.get("delta")
            if isinstance(delta, dict):
                content = delta.get("content")
                if isinstance(content, str) and content:
                    pieces.append(content)
                # A chunk with nothing but text, as most are, is not looked through for more.
                if len(delta) > 1 or not content:
                    # DeepSeek, vLLM and others say the first, OpenRouter and Groq the second.
                    thought = delta.get("reasoning_content") or delta.get("reasoning")
                    if isinstance(thought, str) and thought:
                        self._thoughts.append(thought)
                    if delta.get("tool_calls"):
                        self._parts(delta["tool_calls"])
            reason = choice.get("finish_reason")
            if isinstance(reason, str) and reason:
                self.finish_reason = reason
        usage = event.get("usage")
        if isinstance(usage, dict):
            self.usage = _usage(usage) or self.usage

    def _parts(self, parts: object) -> None:
        """Puts together what arrives in pieces. A piece belongs to the call of its `index`; where
        providers leave that out or always say 0, a new id begins a new call.
        """
        for part in parts if isinstance(parts, list) else ():
            function = part.get("function") if isinstance(part, dict) else None
            if not isinstance(function, dict):
                continue
            self._called = True
            call = self._call_of(part)
            name, text = function.get("name"), function.get("arguments")
            if isinstance(name, str) and not call.name:
                call.name = name[:200]
            if isinstance(text, str):
                call.arguments += text
            call.extra = part.get("extra_content") or call.extra
            if len(self.calls) > MAX_CALLS or len(call.arguments) > MAX_CALL_CHARS:
                raise MalformedStreamError

    def _call_of(self, part: dict[str, Any]) -> Called:
        index, named = part.get("index"), part.get("id")
        name = named if isinstance(named, str) else ""
        number = index if isinstance(index, int) else None
        for call in reversed(self.calls):
            same = call.index == number if number is not None else True
            if same and (not name or name == call.id or not call.id):
                call.id = call.id or name
                return call
            if number is None:
                break
        self.calls.append(Called(name, "", index=number))
        return self.calls[-1]


def _usage(raw: dict[str, Any]) -> dict[str, int] | None:
    found = {
        ours: raw[theirs]
        for ours, theirs in (
            ("promptTokens", "prompt_tokens"),
            ("completionTokens", "completion_tokens"),
            ("totalTokens", "total_tokens"),
        )
        if isinstance(raw.get(theirs), int)
    }
    for ours, theirs, name in (
        ("reasoningTokens", "completion_tokens_details", "reasoning_tokens"),
        ("cachedTokens", "prompt_tokens_details", "cached_tokens"),
    ):
        details = raw.get(theirs)
        if isinstance(details, dict) and isinstance(details.get(name), int):
            found[ours] = details[name]
    return found or None
