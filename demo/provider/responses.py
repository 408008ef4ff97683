"""The Responses API over the same scripts: its requests as chat completions, and its events."""

from __future__ import annotations

import itertools
import time
from typing import Any

import orjson

from demo.provider.scripts import Refusal, Script

_KINDS = {"input_text": "text", "output_text": "text"}
# The names under which chat completions have thoughts, and what they are here.
_THOUGHTS = {
    "reasoning_content": "response.reasoning_summary_text.delta",
    "reasoning": "response.reasoning_text.delta",
}


ONLY_RESPONSES = Refusal(
    404,
    "This model is only supported in v1/responses and not in v1/chat/completions.",
    "invalid_request_error",
    None,
    "model",
)
ONLY_CHAT = Refusal(
    400,
    "The requested model 'chat-only' is not supported with the Responses API.",
    "invalid_request_error",
    "model_not_found",
    "model",
)
UNVERIFIED = Refusal(
    400,
    "Your organization must be verified to generate reasoning summaries.",
    "invalid_request_error",
    "unsupported_value",
    "reasoning.summary",
)


def as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """The body with `messages` in place of `instructions` and `input`."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    found = {name: value for name, value in body.items() if name not in ("input", "instructions")}
    if not isinstance(items, list):
        return found
    messages: list[dict[str, Any]] = []
    for message in (_message(item) for item in items if isinstance(item, dict)):
        if "tool_calls" in message and messages and messages[-1]["role"] == "assistant":
            # Text and calls of one turn are items of their own here.
            messages[-1].setdefault("tool_calls", []).extend(message["tool_calls"])
        else:
            messages.append(message)
    if isinstance(body.get("instructions"), str):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    return found | {"messages": messages}


def _message(item: dict[str, Any]) -> dict[str, Any]:
    if item.get("type") == "function_call":
        called = {name: item.get(name) for name in ("name", "arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": called}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if item.get("type") == "function_call_output":
        return {
            "role": "tool",
            "tool_call_id": item.get("call_id"),
            "content": item.get("output"),
        }
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(part) for part in content if isinstance(part, dict)]
    return {"role": item.get("role"), "content": content}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    return {"type": _KINDS.get(str(part.get("type")), ""), "text": part.get("text")}


def refusal_of(model: str, body: dict[str, Any], *, responses: bool) -> Refusal | None:
    """What the choice of this API, or of the other one, is refused for."""
    if not responses:
        return ONLY_RESPONSES if model == "responses-only" else None
    if model == "chat-only":
        return ONLY_CHAT
    if model == "o3-unverified" and _asks_for_summary(body):
        return UNVERIFIED
    for name in ("seed", "stop", "max_tokens", "messages"):
        if name in body:
            return Refusal(
                400,
                f"Unknown parameter: '{name}'.",
                "invalid_request_error",
                "unknown_parameter",
                name,
            )
    return None


def shown_thoughts(model: str, body: dict[str, Any], thoughts: tuple[str, ...]) -> tuple[str, ...]:
    """OpenAI's own models show what they thought only as a summary, and only when asked for one."""
    return () if model.startswith("o3-") and not _asks_for_summary(body) else thoughts


def _asks_for_summary(body: dict[str, Any]) -> bool:
    reasoning = body.get("reasoning")
    return isinstance(reasoning, dict) and bool(reasoning.get("summary"))


def usage_of(usage: dict[str, Any]) -> dict[str, Any]:
    """The usage of a chat completion in the words of this API."""
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage.get("prompt_tokens_details", {"cached_tokens": 0}),
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage.get("completion_tokens_details", {"reasoning_tokens": 0}),
        "total_tokens": usage["total_tokens"],
    }


class ResponseFrames:
    """Server-sent events of one answer, with the methods of those of a chat completion."""

    def __init__(self, number: int, model: str, newline: bytes) -> None:
        self._numbers = itertools.count()
        self._newline = newline
        self._item = f"msg_demo{number}"
        self._text: list[str] = []
        self._response = {
            "id": f"resp_demo{number}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "store": False,
            "error": None,
            "incomplete_details": None,
        }

    def whole(
        self,
        status: str,
        text: str,
        usage: dict[str, Any] | None,
        calls: tuple[tuple[str, str], ...] = (),
        **more: Any,
    ) -> dict[str, Any]:
        """The response as it stands at the end."""
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {
            "type": "message",
            "id": self._item,
            "status": status,
            "role": "assistant",
            "content": [part],
        }
        return {
            **self._response,
            "status": status,
            "output": [*([message] if text else []), *map(self._call, range(len(calls)), calls)],
            "usage": usage_of(usage) if usage else None,
            **more,
        }

    def role(self) -> bytes:
        begun = {**self._response, "status": "in_progress", "output": [], "usage": None}
        return self._event("response.created", response=begun) + self._event(
            "response.in_progress", response=begun
        )

    def token(self, text: str) -> bytes:
        self._text.append(text)
        return self._event("response.output_text.delta", **self._place(), delta=text)

    def thought(self, name: str, text: str) -> bytes:
        return self._event(
            _THOUGHTS[name],
            item_id=f"rs_{self._item}",
            output_index=0,
            summary_index=0,
            delta=text,
        )

    def broken(self) -> bytes:
        return b'data: {"type":"response.output_text.delta","delta":"half a chu' + self._newline * 2

    def ending(self, script: Script, usage: dict[str, Any] | None) -> bytes:
        """The last event says what has come of it; there is no `[DONE]`."""
        text = "".join(self._text)
        ended = [self._event("response.output_text.done", **self._place(), text=text)]
        for number, call in enumerate(script.calls):
            item = self._call(number, call)
            place = {"item_id": item["id"], "output_index": 2 + number}
            begun = {**item, "status": "in_progress", "arguments": ""}
            index = place["output_index"]
            kind = "response.function_call_arguments"
            ended += [
                self._event("response.output_item.added", output_index=index, item=begun),
                self._event(f"{kind}.delta", **place, delta=call[1]),
                self._event(f"{kind}.done", **place, arguments=call[1]),
                self._event("response.output_item.done", output_index=index, item=item),
            ]
        if script.ending in ("stop", "tool_calls"):
            whole = self.whole("completed", text, usage, script.calls)
            return b"".join([*ended, self._event("response.completed", response=whole)])
        why = "max_output_tokens" if script.ending == "length" else script.ending
        whole = self.whole("incomplete", text, usage, incomplete_details={"reason": why})
        return b"".join([*ended, self._event("response.incomplete", response=whole)])

    def error(self, refusal: Refusal) -> bytes:
        error = {"code": refusal.code or refusal.type, "message": refusal.message}
        response = self.whole("failed", "".join(self._text), None, error=error)
        return self._event("response.failed", response=response)

    def comment(self) -> bytes:
        return b": still thinking" + self._newline * 2

    def _call(self, number: int, call: tuple[str, str]) -> dict[str, Any]:
        return {
            "type": "function_call",
            "id": f"fc{number}_{self._item}",
            "call_id": f"call{number}_{self._item}",
            "status": "completed",
            "name": call[0],
            "arguments": call[1],
        }

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 1, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": kind, "sequence_number": next(self._numbers), **fields})
        line = self._newline
        return b"event: " + kind.encode() + line + b"data: " + data + line * 2
