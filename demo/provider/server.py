"""The HTTP side: plays scripts to clients on a monotonic schedule, and keeps count of them.

A stream that fell behind sends all that is due in one write, so it never drifts. No key is kept,
logged or repeated in an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any

import orjson
from aiohttp import web

from demo.provider.calls import deltas, script_of
from demo.provider.recordings import HEARING_MODEL, HEARING_PREFIX, heard, script_name
from demo.provider.responses import ResponseFrames, as_chat, refusal_of, shown_thoughts
from demo.provider.scripts import (
    MIDSTREAM_ERROR,
    OLD_NAME,
    PLEASANT_MODELS,
    REFUSALS,
    WRONG_KEY,
    Refusal,
    Script,
    UnknownModelError,
    limited,
    script_for,
    unknown_model,
)

KEY_PREFIX = "sk-demo-"
_CREATED = 1_760_000_000
_REMEMBERED = 50
_GO_ON = re.compile(r"\b(continue|go on)\b.*\bwhere (it|you) stopped\b", re.IGNORECASE | re.DOTALL)
_PARAMETERS = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "seed",
    "reasoning_effort",
    "reasoning",
    "stop",
    "store",
)
_NEAR = 0.0005  # timers of the event loop count whole milliseconds

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Call:
    """One request for an answer, as `GET /_demo/requests` shows it."""

    id: int
    model: str
    stream: bool
    messages: int
    parameters: dict[str, Any]
    api: str
    state: str = "open"
    tokens: int = 0

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "model": self.model,
            "stream": self.stream,
            "messages": self.messages,
            "parameters": self.parameters,
            "api": self.api,
            "state": self.state,
            "tokens": self.tokens,
        }


class Ledger:
    """Open calls, totals by how they ended, and the latest calls."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, Call] = {}
        self._recent: deque[Call] = deque(maxlen=_REMEMBERED)
        self._ended = {"completed": 0, "refused": 0, "closed-by-client": 0, "broken-off": 0}
        self._total = 0

    def begin(
        self, model: str, stream: bool, messages: int, parameters: dict[str, Any], api: str
    ) -> Call:
        call = Call(next(self._numbers), model, stream, messages, parameters, api)
        self._open[call.id] = call
        self._recent.append(call)
        self._total += 1
        return call

    def end(self, call: Call, state: str) -> None:
        if self._open.pop(call.id, None) is not None:
            call.state = state
            self._ended[state] += 1

    def shown(self) -> dict[str, Any]:
        return {
            "open": len(self._open),
            "openStreams": sum(call.stream for call in self._open.values()),
            "total": self._total,
            "completed": self._ended["completed"],
            "refused": self._ended["refused"],
            "closedByClient": self._ended["closed-by-client"],
            "brokenOff": self._ended["broken-off"],
            "recent": [call.shown() for call in self._recent],
        }


class Provider:
    """The routes and their state; `app()` gives the application to serve."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.down = False
        self.reject_keys = False
        self._open_transports: set[asyncio.Transport] = set()
        self._asked: Counter[tuple[str, str]] = Counter()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._gate], client_max_size=32 * 1024 * 1024)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/key", self._key)
        app.router.add_get("/v1/models/{model}", self._model)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/responses", self._chat)
        app.router.add_post("/v1/audio/transcriptions", self._transcribe)
        app.router.add_get("/_demo/requests", self._requests)
        app.router.add_get("/_demo/behaviour", self._behaviour)
        app.router.add_post("/_demo/behaviour", self._behave)
        return app

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/v1/"):
            return await handler(request)
        if self.down:
            return _drop(request)
        if self.reject_keys or not _key_of(request).startswith(KEY_PREFIX):
            return _refuse(WRONG_KEY)
        return await handler(request)

    async def _models(self, request: web.Request) -> web.Response:
        names = list(PLEASANT_MODELS)
        if _key_of(request).startswith(HEARING_PREFIX):
            names.append(HEARING_MODEL)
        return _json({"object": "list", "data": [_model(name) for name in names]})

    async def _key(self, request: web.Request) -> web.Response:
        return _json({"data": {"label": "demo", "limit": None, "usage": 0}})

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        try:
            script_for(name)
        except UnknownModelError:
            return _refuse(unknown_model(name))
        return _json(_model(name))

    async def _requests(self, request: web.Request) -> web.Response:
        return _json(self.ledger.shown())

    async def _behaviour(self, request: web.Request) -> web.Response:
        return _json({"down": self.down, "rejectKeys": self.reject_keys})

    async def _behave(self, request: web.Request) -> web.Response:
        wanted = await _body(request)
        names = {"down", "rejectKeys"}
        if wanted is None or not set(wanted) <= names:
            return _refuse(_bad_request("Send a JSON object with 'down' and 'rejectKeys'."))
        self.down = bool(wanted.get("down", self.down))
        self.reject_keys = bool(wanted.get("rejectKeys", self.reject_keys))
        if self.down:
            for transport in tuple(self._open_transports):
                transport.close()
        return await self._behaviour(request)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        arrived = time.monotonic()
        body = await _body(request)
        if body is None:
            return _refuse(_bad_request("We could not parse the JSON body of your request."))
        responses = request.path == "/v1/responses"
        asked = body
        if responses:
            body = as_chat(body)
        model, messages = body.get("model"), body.get("messages")
        if not isinstance(model, str) or not model:
            return _refuse(_bad_request("you must provide a model parameter"))
        if not isinstance(messages, list) or not messages:
            name = "input" if responses else "messages"
            return _refuse(_bad_request(f"Missing required parameter: '{name}'.", name))
        api = "responses" if responses else "chat"
        call = self.ledger.begin(
            model, bool(body.get("stream")), len(messages), _parameters(body), api
        )
        transport = request.transport
        if transport is None:
            self.ledger.end(call, "closed-by-client")
            return _drop(request)
        self._open_transports.add(transport)
        try:
            if (refusal := refusal_of(model, asked, responses=responses)) is not None:
                self.ledger.end(call, "refused")
                return _refuse(refusal)
            question, kept = _asked_for(messages)
            if model == "echo-all":
                question = "\n".join(
                    f"{one.get('role')}: {_text(one)}" for one in messages if isinstance(one, dict)
                )
            if model == "no-images" and any(_has_parts(one) for one in messages):
                self.ledger.end(call, "refused")
                return _refuse(_bad_request("This model does not support image inputs."))
            offered = bool(body.get("tools"))
            if model == "no-tools" and offered:
                self.ledger.end(call, "refused")
                return _refuse(_bad_request("This model does not support tools."))
            script = limited(script_for(model, question, kept), _limit(body))
            if model == "tools":
                may_call = offered and body.get("tool_choice") != "none"
                script = script_of(messages, may_call=may_call)
            script = replace(script, thoughts=shown_thoughts(model, asked, script.thoughts))
            if script.refused_parameter in body:
                self.ledger.end(call, "refused")
                return _refuse(OLD_NAME)
            if script.fails and script.refusal is not None:
                self._asked[model, question] += 1
                if self._asked[model, question] > script.fails:
                    script = replace(script, refusal=None)
                elif script.drops:
                    self.ledger.end(call, "broken-off")
                    return _drop(request)
            if script.refusal is not None:
                self.ledger.end(call, "refused")
                return _refuse(script.refusal)
            if script.hang:
                await asyncio.Event().wait()
            prompt = sum(len(_text(message).split()) for message in messages)
            if script.window is not None and prompt > script.window:
                self.ledger.end(call, "refused")
                return _refuse(REFUSALS["error-context"])
            if call.stream:
                options = body.get("stream_options")
                usage = responses or (
                    isinstance(options, dict) and bool(options.get("include_usage"))
                )
                return await self._play(request, call, script, arrived, prompt if usage else None)
            return await self._whole(request, call, script, arrived, prompt)
        except UnknownModelError:
            self.ledger.end(call, "refused")
            return _refuse(unknown_model(model))
        except (asyncio.CancelledError, ConnectionError):
            self.ledger.end(call, "broken-off" if self.down else "closed-by-client")
            raise
        finally:
            self._open_transports.discard(transport)
            self.ledger.end(call, "broken-off" if self.down else "completed")

    async def _transcribe(self, request: web.Request) -> web.StreamResponse:
        arrived = time.monotonic()
        form = await request.post()
        model, file, language = (form.get(name) for name in ("model", "file", "language"))
        if not isinstance(model, str) or not model:
            return _refuse(_bad_request("you must provide a model parameter"))
        if not isinstance(file, web.FileField):
            return _refuse(_bad_request("Missing required parameter: 'file'.", "file"))
        data = file.file.read()
        call = self.ledger.begin(model, False, 0, {}, "transcriptions")
        transport = request.transport
        if transport is None:
            self.ledger.end(call, "closed-by-client")
            return _drop(request)
        self._open_transports.add(transport)
        try:
            name = script_name(model)
            if name is None:
                raise UnknownModelError(model)
            script = script_for(name)
            if script.fails and script.refusal is not None:
                asked = hashlib.sha256(data).hexdigest()
                self._asked[model, asked] += 1
                if self._asked[model, asked] > script.fails:
                    script = replace(script, refusal=None)
                elif script.drops:
                    self.ledger.end(call, "broken-off")
                    return _drop(request)
            if script.refusal is not None:
                self.ledger.end(call, "refused")
                return _refuse(script.refusal)
            text = ""
            if script.tokens:
                text = heard(data, file.filename, language if isinstance(language, str) else None)
            said = replace(script, tokens=(text,))
            if script.hang:
                await asyncio.Event().wait()
            return await self._whole(request, call, said, arrived, 10)
        except UnknownModelError:
            self.ledger.end(call, "refused")
            return _refuse(unknown_model(model))
        except (asyncio.CancelledError, ConnectionError):
            self.ledger.end(call, "broken-off" if self.down else "closed-by-client")
            raise
        finally:
            self._open_transports.discard(transport)
            self.ledger.end(call, "broken-off" if self.down else "completed")

    async def _whole(
        self, request: web.Request, call: Call, script: Script, arrived: float, prompt: int
    ) -> web.StreamResponse:
        last = script.first + max(len(script.tokens) - 1, 0) * script.interval
        await asyncio.sleep(max(0.0, arrived + last - time.monotonic()))
        if script.ending == "stall":
            await asyncio.Event().wait()
        if script.ending in ("cut", "reset"):
            self.ledger.end(call, "broken-off")
            return _drop(request)
        if script.ending == "error":
            self.ledger.end(call, "refused")
            return _refuse(MIDSTREAM_ERROR)
        call.tokens = len(script.tokens)
        if call.api == "transcriptions":
            raw = orjson.dumps(_transcription(script, prompt))
            raw = raw if script.broken_at is None else raw[: len(raw) // 2]
            return web.Response(body=raw, content_type="application/json")
        if call.api == "responses":
            used = _usage(prompt, call.tokens) if script.usage else None
            frames = ResponseFrames(call.id, call.model, script.newline)
            return _json(frames.whole("completed", script.text, used, script.calls))
        answer: dict[str, Any] = {
            "id": f"chatcmpl-demo{call.id}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": call.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": script.text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": script.ending,
                }
            ],
        }
        if script.usage:
            answer["usage"] = _usage(prompt, call.tokens)
        if script.broken_at is not None:
            raw = orjson.dumps(answer)
            return web.Response(body=raw[: len(raw) // 2], content_type="application/json")
        return _json(answer)

    async def _play(
        self,
        request: web.Request,
        call: Call,
        script: Script,
        arrived: float,
        prompt: int | None,
    ) -> web.StreamResponse:
        frames: Frames = (
            ResponseFrames(call.id, call.model, script.newline)
            if call.api == "responses"
            else _Frames(call, script.newline, with_usage=prompt is not None and script.usage)
        )
        begin = arrived + script.first
        delay = begin - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
            }
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(frames.role())
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        if script.dribble:
            await _dribble(response, b"".join(map(frames.token, script.tokens)))
            call.tokens = len(script.tokens)
        else:
            await _Player(transport, frames, script, call, begin).played()
        ending = b""
        if script.ending == "error":
            ending = frames.error(MIDSTREAM_ERROR)
        elif script.ending in ("stop", "length", "content_filter", "tool_calls"):
            usage_of_all = None
            if prompt is not None and script.usage:
                usage_of_all = _usage(prompt, call.tokens, len(script.thoughts))
            ending = frames.ending(script, usage_of_all)
        if ending:
            _write(transport, ending)
        if script.ending == "stall":
            await asyncio.Event().wait()
        if script.ending in ("cut", "reset"):
            self.ledger.end(call, "broken-off")
            await asyncio.sleep(0.02)  # a reset may overtake what was sent just before it
            if script.ending == "reset":
                transport.abort()
            else:
                transport.close()
            return response
        await response.write_eof()
        return response


class _Player:
    """Sends the tokens of a script when they are due, from the loop's timer.

    A task that sleeps between tokens would cost three times as much, and the provider must be
    cheap beside what is measured against it. So tokens go straight to the transport, too, in the
    chunked encoding that the response has announced.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        frames: Frames,
        script: Script,
        call: Call,
        begin: float,
    ) -> None:
        self._transport = transport
        self._frames = frames
        self._script = script
        self._call = call
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        # Whether all was sent. Not an exception: nobody may be left who would take it.
        self._ended: asyncio.Future[bool] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._held = b""
        self._sent = 0

    async def played(self) -> None:
        """Returns when the last token is sent. Raises ConnectionResetError if the client left."""
        self._tick()
        try:
            all_sent = await self._ended
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if not all_sent:
            raise ConnectionResetError

    def _tick(self) -> None:
        if self._ended.done():
            return
        if self._transport.is_closing():
            self._ended.set_result(False)
            return
        script, sent = self._script, self._sent
        count = len(script.thoughts) + len(script.tokens)
        now = time.monotonic()
        frames = []
        while sent < count and self._begin + sent * script.interval <= now + _NEAR:
            frames.append(self._frame(sent))
            sent += 1
        self._sent = sent
        self._call.tokens = max(0, sent - len(script.thoughts))
        data = self._held + b"".join(frames)
        if script.split and sent < count:
            self._held = data[(cut := _inside_a_character(data)) :]
            data = data[:cut]
        if data:
            _write(self._transport, data)
        if sent == count:
            self._ended.set_result(True)
        else:
            due = self._begin + sent * script.interval
            self._timer = self._loop.call_later(due - now, self._tick)

    def _frame(self, index: int) -> bytes:
        thoughts = self._script.thoughts
        if index < len(thoughts):
            return self._frames.thought(self._script.thought_name, thoughts[index])
        index -= len(thoughts)
        frame = self._frames.token(self._script.tokens[index])
        if self._script.comments and index % 5 == 0:
            frame = self._frames.comment() + frame
        if self._script.broken_at == index:
            frame = self._frames.broken() + frame
        return frame


class _Frames:
    """Server-sent events of one chat completion; the part that all chunks share is encoded once."""

    def __init__(self, call: Call, newline: bytes, *, with_usage: bool) -> None:
        head = {
            "id": f"chatcmpl-demo{call.id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": call.model,
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
        }
        self._head = b"data: " + orjson.dumps(head)[:-1]
        self._end = newline * 2
        nothing = b',"usage":null}' if with_usage else b"}"
        self._before = self._head + b',"choices":[{"index":0,"delta":{"content":'
        self._after = b'},"logprobs":null,"finish_reason":null}]' + nothing + self._end
        self._nothing = nothing
        self._number = call.id

    def role(self) -> bytes:
        return self._choice(b'{"role":"assistant","content":"","refusal":null}', b"null")

    def token(self, text: str) -> bytes:
        return self._before + orjson.dumps(text) + self._after

    def thought(self, name: str, text: str) -> bytes:
        return self._choice(orjson.dumps({"content": None, name: text}), b"null")

    def called(self, part: dict[str, Any]) -> bytes:
        return self._choice(orjson.dumps({"tool_calls": [part]}), b"null")

    def broken(self) -> bytes:
        return self._before + b'"half a chu' + self._end

    def finish(self, reason: str) -> bytes:
        return self._choice(b"{}", orjson.dumps(reason))

    def usage(self, usage: dict[str, Any]) -> bytes:
        return self._head + b',"choices":[],"usage":' + orjson.dumps(usage) + b"}" + self._end

    def ending(self, script: Script, usage: dict[str, Any] | None) -> bytes:
        frames = [self.called(part) for part in deltas(script.calls, self._number)]
        frames.append(self.finish(script.ending))
        if usage is not None:
            frames.append(self.usage(usage))
        if script.done:
            frames.append(self.done())
        return b"".join(frames)

    def error(self, refusal: Refusal) -> bytes:
        return b"data: " + orjson.dumps(refusal.body()) + self._end

    def done(self) -> bytes:
        return b"data: [DONE]" + self._end

    def comment(self) -> bytes:
        return b": still thinking" + self._end

    def _choice(self, delta: bytes, reason: bytes) -> bytes:
        return b"".join(
            (
                self._head,
                b',"choices":[{"index":0,"delta":',
                delta,
                b',"logprobs":null,"finish_reason":',
                reason,
                b"}]",
                self._nothing,
                self._end,
            )
        )


Frames = _Frames | ResponseFrames


async def _dribble(response: web.StreamResponse, data: bytes) -> None:
    """One byte at a time, each in a chunk of its own."""
    for index in range(len(data)):
        await response.write(data[index : index + 1])
        await asyncio.sleep(0)


def _write(transport: asyncio.Transport, data: bytes) -> None:
    """One chunk of the chunked encoding (RFC 9112, section 7.1)."""
    transport.write(b"%x\r\n%b\r\n" % (len(data), data))


def _inside_a_character(data: bytes) -> int:
    """Where to cut so that a character of more than one byte is torn apart, if there is one."""
    torn = next((index for index, byte in enumerate(data) if byte > 0x7F), None)
    return len(data) // 2 if torn is None else torn + 1


def _drop(request: web.Request) -> web.StreamResponse:
    """Closes the connection with no answer at all."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, content_type="application/json", charset="utf-8"
    )


def _refuse(refusal: Refusal) -> web.Response:
    response = _json(refusal.body(), refusal.status)
    if refusal.retry_after is not None:
        when = time.time() + refusal.retry_after
        response.headers["Retry-After"] = (
            formatdate(when, usegmt=True) if refusal.as_date else str(refusal.retry_after)
        )
    return response


def _bad_request(message: str, param: str | None = None) -> Refusal:
    return Refusal(400, message, "invalid_request_error", param=param)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "papita-demo"}


def _usage(prompt: int, completion: int, thoughts: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion + thoughts,
        "total_tokens": prompt + completion + thoughts,
    }
    if thoughts:
        found["prompt_tokens_details"] = {"cached_tokens": 1}
        found["completion_tokens_details"] = {"reasoning_tokens": thoughts}
    return found


def _transcription(script: Script, prompt: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"text": script.text}
    if script.usage:
        tokens = len(script.text.split())
        answer["usage"] = {
            "type": "tokens",
            "input_tokens": prompt,
            "input_token_details": {"text_tokens": 0, "audio_tokens": prompt},
            "output_tokens": tokens,
            "total_tokens": prompt + tokens,
        }
    return answer


async def _body(request: web.Request) -> dict[str, Any] | None:
    try:
        value = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    """Numbers, and short words and lists of them: never what a user wrote as a message."""
    return {name: body[name] for name in _PARAMETERS if name in body}


def _limit(body: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _text(message: object) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (_part(part) for part in content if isinstance(part, dict))
        return " ".join(part for part in parts if isinstance(part, str))
    return ""


def _has_parts(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content"), list)


def _part(part: dict[str, Any]) -> object:
    """The text of a part, or how an image begins and how long it is."""
    image = part.get("image_url")
    if not isinstance(image, dict):
        return part.get("text")
    url = str(image.get("url"))
    return f"[{url.partition(',')[0]}, {len(url)}]"


def _key_of(request: web.Request) -> str:
    """The key, where OpenAI, Anthropic or Azure would look for it."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key
    return request.headers.get("x-api-key") or request.headers.get("api-key") or ""


def _asked_for(messages: list[Any]) -> tuple[str, str]:
    """The last question, and the beginning of its answer where that is to be gone on with."""
    said = [one for one in messages if isinstance(one, dict)]
    kept = ""
    if (
        len(said) > 1
        and [one.get("role") for one in said[-2:]] == ["assistant", "user"]
        and _GO_ON.search(_text(said[-1]))
    ):
        kept = _text(said[-2])
        said = said[:-2]
    for message in reversed(said):
        if message.get("role") == "user":
            return _text(message), kept
    return "", kept
