"""Asks an OpenAI-compatible provider for an answer, for its models, or for what is said in a
recording, with the key as argument.

One SDK client over aiohttp for all users and origins, which holds no key. An answer is asked for
with the SDK's headers and errors, but over its aiohttp session: to build the request, and objects
for the chunks of the stream, costs the SDK several times as much as the rest. Every failure becomes
a `RunError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import httpx2
import orjson
from openai import (
    APIConnectionError,
    APIStatusError,
    AsyncOpenAI,
    AsyncStream,
    DefaultAioHttpClient,
    Omit,
    OpenAIError,
    Timeout,
)
from openai._types import RequestOptions
from openai._vendor.httpx_aiohttp.transport import AiohttpTransport

from alchat_core import telemetry
from alchat_core.credential_manager import Loan
from alchat_core.errors import RunError
from alchat_core.providers.backoff import in_words
from alchat_core.providers.breaker import Breaker
from alchat_core.providers.forms import Forms, Question, Refusal
from alchat_core.providers.guard import NOT_ALLOWED, AddressRefusedError, Guard
from alchat_core.providers.http import guarded_session
from alchat_core.providers.lines import (
    Called,
    MalformedStreamError,
    ProviderReportedError,
)
from alchat_core.providers.parameters import THEIRS, parameter_refused
from alchat_core.providers.rests import Rest, Rests, no_rest
from alchat_core.providers.traced import traced
from alchat_core.providers.transcribing import PATH as TRANSCRIPTIONS
from alchat_core.providers.transcribing import Recording, of_a_recording, tokens_of
from alchat_core.settings import Settings, origin_of

# Asked for in this order when a conversation names no model and the administrator none either.
PREFERRED_MODELS = (
    "gpt-5.4-mini",
    "gpt-5-mini",
    "gpt-5",
    "gpt-4.1-mini",
    "gpt-4.1",
    "gpt-4o-mini",
    "gpt-4o",
    "demo",
)
_NOT_FOR_CHAT = (
    "embedding",
    "whisper",
    "tts",
    "dall-e",
    "moderation",
    "image",
    "audio",
    "realtime",
    "transcribe",
    "davinci",
    "babbage",
    "sora",
    "codex",
    "search",
    "computer-use",
    "instruct",
    "deep-research",
)
_MAX_MODELS = 500
_MAX_LIST_BYTES = 4 * 1024 * 1024
_MAX_REFUSAL_BYTES = 64 * 1024
_DRAIN_SECONDS = 0.1

# Where a key does not go as `Authorization: Bearer`. Anthropic's list of models is no part of its
# OpenAI-compatible API.
_AZURE: Final = "azure-openai"
_ANTHROPIC: Final = "anthropic"
_ANTHROPIC_VERSION: Final = "2023-06-01"


# In the words of OpenAI, OpenRouter, Mistral, Ollama, vLLM, Groq and DeepSeek.
_NO_IMAGES = re.compile(r"image|vision|multi-?modal|must be a string|expected a string")
_NO_TOOLS = re.compile(
    r"(tool|function).{0,60}(not support|not available|unsupported)"
    r"|(not|n't|unsupported|that) support.{0,30}(tool|function)|--enable-auto-tool-choice"
)
_NO_IMAGES_STATUS = frozenset({400, 404, 415, 422, 500, 501})
_OTHER_CODES = frozenset({"context_length_exceeded", "content_policy_violation", "content_filter"})

NO_PARAMETERS: Final[Mapping[str, Any]] = {}
RATE_LIMITED = "The provider is receiving too many requests with your key. Try again {}."


class Thought(str):
    """What a model thought before it answers; no part of the answer."""

    __slots__ = ()


class Answer:
    """One answer in the making: iterate for the text, then read `usage` and `calls`, the tools that
    the model wants to be called before it goes on.

    `taken`: the provider has begun to answer, so that the request may cost something.
    """

    def __init__(self) -> None:
        self.usage: dict[str, int] | None = None
        self.taken = False
        self.calls: list[Called] = []


class Provider:
    """Built once per process; `close()` before the loop ends."""

    def __init__(self, settings: Settings) -> None:
        self._guard = Guard(settings.papita_provider_allowlist)
        self._first_token = settings.alchat_first_token_timeout
        self._token_gap = settings.alchat_token_gap_timeout
        longest = max(self._first_token, self._token_gap)
        # Proxies of the environment are not used: behind one, no address could be checked.
        self._transport = AiohttpTransport(client=self._open_session)
        self._http = DefaultAioHttpClient(
            transport=self._transport,
            follow_redirects=False,
            trust_env=False,
            event_hooks={"response": [_limit]},
        )
        self._client = AsyncOpenAI(
            api_key="none",
            organization="",
            project="",
            base_url="https://provider.invalid/v1",
            http_client=self._http,
            # Trying again is decided here, where it is known that nothing was answered yet.
            max_retries=0,
            default_headers={"Accept-Encoding": "identity"},
            timeout=Timeout(
                longest + 5.0, connect=settings.alchat_provider_connect_timeout, pool=None
            ),
        )
        self._headers = {
            name: value
            for name, value in self._client.default_headers.items()
            if isinstance(value, str) and value and name.lower() != "authorization"
        }
        self._limits = aiohttp.ClientTimeout(
            sock_connect=settings.alchat_provider_connect_timeout, sock_read=longest + 5.0
        )
        self._forms = Forms(settings.alchat_responses_origins)
        self._breaker = Breaker(settings.alchat_breaker_failures, settings.alchat_breaker_seconds)

    def _open_session(self) -> aiohttp.ClientSession:
        return guarded_session(self._guard, self._transport.ssl_context)

    async def close(self) -> None:
        await self._client.close()

    async def models(self, loan: Loan) -> tuple[str, ...]:
        """Models of this credential, the one to prefer first. Raises `RunError`."""
        base_url = self._guard.check(loan.base_url)
        try:
            async with asyncio.timeout(min(30.0, self._first_token)):
                response: httpx2.Response = await self._client.get(
                    f"{base_url}/models",
                    cast_to=httpx2.Response,
                    options=_with_key(loan, listing=True),
                    stream=True,
                    stream_cls=AsyncStream[Any],
                )  # type: ignore[assignment]
                try:
                    body = await _read_object(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise RunError("provider-timeout") from None
        except OpenAIError as error:
            raise explain(error) from None
        except (httpx2.HTTPError, aiohttp.ClientError, OSError, ValueError):
            raise RunError("provider-error") from None
        listed = body.get("data")
        if not isinstance(listed, list):
            raise RunError("provider-error")
        names = [
            item["id"]
            for item in listed
            if isinstance(item, dict) and isinstance(item.get("id"), str) and item["id"]
        ]
        return _sorted_models(names[:_MAX_MODELS])

    def stream(
        self,
        loan: Loan,
        model: str,
        messages: Sequence[dict[str, Any]],
        answer: Answer,
        parameters: Mapping[str, Any] = NO_PARAMETERS,
        rest: Rest = no_rest,
    ) -> AsyncGenerator[str, None]:
        """The text of an answer, in the pieces in which it arrives, some of them a `Thought`.

        Raises `RunError`.

        `messages` and `parameters` are as chat completions have them
        (`alchat_core.providers.parameters.sent_as`), in whichever form they are sent.

        `rest()` is for how many seconds nobody will look at what comes after a piece of text.

        Leaving the iteration early closes the provider's stream.
        """
        pieces = self._stream(loan, model, messages, answer, parameters, rest)
        return traced(pieces, loan, model, answer, parameters) if telemetry.on() else pieces

    async def _stream(
        self,
        loan: Loan,
        model: str,
        messages: Sequence[dict[str, Any]],
        answer: Answer,
        parameters: Mapping[str, Any],
        rest: Rest,
    ) -> AsyncGenerator[str, None]:
        base_url = self._guard.check(loan.base_url)
        question = self._forms.question(loan, base_url, model, messages, parameters)
        reader = question.reader
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(self._first_token) as limit,
                self._open(loan, base_url, question) as response,
            ):
                answer.taken = True
                reader = question.reader
                checked = 0.0
                rests = Rests(response.content, rest)
                async for chunk in response.content.iter_any():
                    fault = None
                    try:
                        reader.feed(chunk)
                    except (MalformedStreamError, ProviderReportedError) as error:
                        fault = error
                    text = reader.take()
                    thought = reader.take_thoughts()
                    if text or thought or reader.take_called():
                        now = loop.time()
                        # Moving the limit at every token would cost more than it is worth.
                        if now - checked > 0.25:
                            checked = now
                            limit.reschedule(now + self._token_gap)
                        if thought:
                            yield Thought(thought)
                        if text:
                            yield text
                    if fault is not None:
                        raise fault
                    if reader.done:
                        limit.reschedule(None)
                        await _drain(response.content.iter_any())
                        break
                    if text:
                        await rests.take(chunk)
                reader.end()
        except TimeoutError:
            raise RunError("provider-timeout") from None
        except OpenAIError as error:
            if _refuses_images(error, messages):
                raise RunError("images-refused") from None
            if "tools" in parameters and _refuses_tools(error):
                raise RunError("tools-refused") from None
            raise explain(error) from None
        except httpx2.TimeoutException as error:
            slow = any(isinstance(cause, TimeoutError) for cause in _causes(error))
            raise RunError("provider-timeout") if slow else _cut_off() from None
        except (httpx2.HTTPError, aiohttp.ClientError, OSError):
            raise _cut_off() from None
        except ProviderReportedError as error:
            raise _reported(error.error) from None
        except MalformedStreamError:
            raise RunError(
                "provider-error",
                "The provider sent something that is not an answer."
                " Check the base URL of your key, or try again.",
            ) from None
        finally:
            answer.usage = reader.usage
        if thought := reader.take_thoughts():
            yield Thought(thought)
        last = reader.take()
        if last:
            yield last
        if reader.finish_reason == "content_filter":
            raise RunError("content-filtered")
        if not reader.done and reader.finish_reason is None:
            if not reader.any_event:
                raise RunError(
                    "provider-error",
                    "The provider sent no answer. Check the base URL of your key, or try again.",
                )
            raise _cut_off()
        if "tools" in parameters:
            answer.calls = [call for call in reader.calls if call.name]

    async def transcribe(
        self,
        loan: Loan,
        model: str,
        recording: Recording,
        answer: Answer,
        language: str | None = None,
    ) -> str:
        """What is said in a recording. Raises `RunError`."""
        base_url = self._guard.check(loan.base_url)
        fields = {"model": model, "response_format": "json"}
        if language:
            fields["language"] = language
        try:
            async with asyncio.timeout(self._first_token):
                with self._breaker.asking(origin_of(base_url), _is_down):
                    response = await self._upload(loan, base_url, fields, recording)
                answer.taken = True
                try:
                    body = await _read_object(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise RunError("provider-timeout") from None
        except OpenAIError as error:
            raise of_a_recording(explain(error)) from None
        except (httpx2.HTTPError, aiohttp.ClientError, OSError, ValueError):
            raise RunError("provider-error") from None
        answer.usage = tokens_of(body)
        text = body.get("text")
        if not isinstance(text, str):
            raise RunError("provider-error")
        return text.strip()

    async def _upload(
        self, loan: Loan, base_url: str, fields: dict[str, str], recording: Recording
    ) -> httpx2.Response:
        options = _with_key(loan)
        options["headers"] = {**options["headers"], "Content-Type": "multipart/form-data"}
        tried_again = False
        while True:
            try:
                # As `audio.transcriptions.create` of the SDK does, at this credential's address.
                response: httpx2.Response = await self._client.post(
                    base_url + TRANSCRIPTIONS,
                    body=fields,
                    files={"file": (recording.name, recording.data, recording.media_type)},
                    cast_to=httpx2.Response,
                    options=options,
                    stream=True,
                    stream_cls=AsyncStream[Any],
                )  # type: ignore[assignment]
            except APIConnectionError as error:
                if tried_again or not _was_dropped(error):
                    raise
                tried_again = True
            else:
                return response

    @asynccontextmanager
    async def _open(
        self, loan: Loan, base_url: str, question: Question
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The provider's response: its head is read, its body is not."""
        with self._breaker.asking(origin_of(base_url), _is_down):
            response = await self._request(loan, base_url, question)
        try:
            yield response
        finally:
            await _leave(response)

    async def _request(
        self, loan: Loan, base_url: str, question: Question
    ) -> aiohttp.ClientResponse:
        tried_again = False
        while True:
            try:
                response = await self._post(loan, base_url + question.path, question.body)
            except APIStatusError as error:
                if not question.again(Refusal(error.status_code, *_details(error.body))):
                    raise
            except APIConnectionError as error:
                # A connection kept open from an earlier answer may be closed by now.
                if tried_again or not _was_dropped(error):
                    raise
                tried_again = True
            else:
                question.taken()
                return response

    async def _post(self, loan: Loan, url: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        """As `post` of the SDK does, at a third of its cost. Raises the SDK's errors."""
        headers = self._headers | {
            name: value
            for name, value in _with_key(loan)["headers"].items()
            if isinstance(value, str)
        }
        try:
            response = await self._session().post(
                url,
                data=_as_json(body),
                headers=headers,
                allow_redirects=False,
                auto_decompress=False,
                timeout=self._limits,
            )
        except Exception as error:
            # Whatever it was, the SDK would call it so.
            raise APIConnectionError(request=httpx2.Request("POST", url)) from error
        if 200 <= response.status < 300:
            return response
        try:
            raise await _refusal(response)
        finally:
            await _leave(response)

    def _session(self) -> aiohttp.ClientSession:
        """The one that the SDK's client uses, too, and closes."""
        opened = self._transport.client
        if not isinstance(opened, aiohttp.ClientSession):
            opened = self._transport.client = self._open_session()
        return opened


def _as_json(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        # A number of more than 64 bits, say.
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


async def _leave(response: aiohttp.ClientResponse) -> None:
    """Closes the connection, unless the body was read to its end: then it is kept."""
    response.release()
    await response.wait_for_close()


async def _refusal(response: aiohttp.ClientResponse) -> APIStatusError:
    """The SDK's error for a response, of whose body no more is read than an error needs."""
    raw = bytearray()
    try:
        async for chunk in response.content.iter_any():
            raw += chunk[: _MAX_REFUSAL_BYTES - len(raw)]
            if len(raw) >= _MAX_REFUSAL_BYTES:
                break
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise APIConnectionError(request=httpx2.Request("POST", str(response.url))) from error
    text = raw.decode("utf-8", "replace").strip()
    body: object = text
    with contextlib.suppress(orjson.JSONDecodeError):
        body = orjson.loads(text)
    found = httpx2.Response(
        response.status,
        headers=[
            (name, value)
            for name, value in response.raw_headers
            if name.lower() != b"content-encoding"
        ],
        request=httpx2.Request("POST", str(response.url)),
    )
    return APIStatusError(f"Error code: {response.status}", response=found, body=body)


def _is_down(error: Exception) -> bool:
    """Whether an exception says that the origin, whoever asks, does not work."""
    if isinstance(error, APIStatusError):
        return error.status_code >= 500
    return isinstance(error, APIConnectionError) and explain(error).transient


def _with_key(loan: Loan, *, listing: bool = False) -> RequestOptions:
    """The key for one call; the shared client itself has none, and its placeholder is left out."""
    headers: dict[str, str | Omit] = {
        "Authorization": Omit(),
        "OpenAI-Organization": loan.organization or Omit(),
        "OpenAI-Project": loan.project or Omit(),
    }
    if loan.api_key is not None:
        key = loan.api_key.reveal()
        if loan.credential_type == _AZURE:
            headers["api-key"] = key
        elif loan.credential_type == _ANTHROPIC and listing:
            headers |= {"x-api-key": key, "anthropic-version": _ANTHROPIC_VERSION}
        else:
            headers["Authorization"] = f"Bearer {key}"
    return {"headers": headers}


async def _limit(response: httpx2.Response) -> None:
    """Takes a response as it comes, and of a refusal no more than an error needs."""
    # Nothing but plain bytes was asked for: what is packed all the same could unpack to anything.
    response.headers.pop("content-encoding", None)
    if response.status_code >= 300:
        response.stream = _Head(response.stream)


class _Head(httpx2.AsyncByteStream):
    """The beginning of a body."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        room = _MAX_REFUSAL_BYTES
        async for chunk in self._inner:
            yield chunk[:room]
            room -= len(chunk)
            if room <= 0:
                return

    async def aclose(self) -> None:
        await self._inner.aclose()


def _cut_off() -> RunError:
    return RunError("provider-cut-off", transient=True)


def explain(error: OpenAIError) -> RunError:
    """The `RunError` for what the SDK raised; nothing that the provider wrote is passed on."""
    if isinstance(error, APIStatusError):
        return _status(error.status_code, error.body, _retry_after(error))
    causes = _causes(error)
    if any(isinstance(cause, AddressRefusedError) for cause in causes):
        return RunError("bad-request", NOT_ALLOWED)
    if isinstance(error, APIConnectionError):
        # The SDK calls a connection that was closed a time-out, too; the cause tells them apart.
        if any(isinstance(cause, aiohttp.ConnectionTimeoutError) for cause in causes):
            return RunError("provider-unreachable", transient=True)
        if any(isinstance(cause, TimeoutError) for cause in causes):
            return RunError("provider-timeout")
        if any(isinstance(cause, aiohttp.ClientConnectorCertificateError) for cause in causes):
            return RunError(
                "provider-unreachable",
                "The provider's certificate could not be verified, so nothing was sent to it."
                " Check the base URL of your key.",
            )
        return RunError("provider-unreachable", transient=True)
    return RunError("provider-error")


def _status(status: int, body: object, retry_after: int | None) -> RunError:
    code, kind, param, message = _details(body)
    words = {code, kind}
    if words & {"insufficient_quota", "billing_hard_limit_reached"} or status == 402:
        return RunError("quota-exceeded")
    if words & {"context_length_exceeded", "string_above_max_length"} or status == 413:
        return RunError("context-too-long")
    if words & {"content_filter", "content_policy_violation", "moderation_blocked"}:
        return RunError("content-filtered")
    if (
        status == 400
        and "api key" in message
        and ("not valid" in message or "incorrect" in message)
    ):
        # Some providers call a wrong key a bad request.
        return RunError("credential-rejected")
    if "model_not_found" in words or (
        status in (400, 404, 422) and (param == "model" or "invalid model name" in message)
    ):
        return RunError("model-not-found")
    if status in (401, 403) or words & {"invalid_api_key", "authentication_error"}:
        return RunError("credential-rejected")
    if status == 404:
        return RunError("model-not-found")
    if status == 429 or "rate_limit_exceeded" in words:
        when = None if retry_after is None else RATE_LIMITED.format(in_words(retry_after))
        return RunError("rate-limited", when, retry_after=retry_after, transient=True)
    if status in (408, 504):
        return RunError("provider-timeout", retry_after=retry_after, transient=True)
    if status >= 500 or status == 409:
        return RunError("provider-error", retry_after=retry_after, transient=True)
    if 300 <= status < 400:
        return RunError(
            "bad-request",
            "The provider redirected the request to another address, which AL-Chat does not"
            " follow. Correct the base URL of your key.",
        )
    if "context length" in message or "context window" in message or "too many tokens" in message:
        return RunError("context-too-long")
    if param in THEIRS:
        return parameter_refused(THEIRS[param])
    return RunError("bad-request")


def _reported(error: object) -> RunError:
    """An error object in mid-stream; some providers give the status as its code."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return _status(status, error, None)


def _details(body: object) -> tuple[str, str, str, str]:
    if isinstance(body, list) and len(body) == 1:  # Google's
        body = body[0]
    if isinstance(body, str):  # xAI's
        return "", "", "", body.lower()[:2000]
    if not isinstance(body, dict):
        return "", "", "", ""
    inner = body.get("error")
    found = inner if isinstance(inner, dict) else body
    code, kind, param, message = (
        value if isinstance(value := found.get(name), str) else ""
        for name in ("code", "type", "param", "message")
    )
    return code, kind, param, message.lower()[:2000]


async def _read_object(response: httpx2.Response) -> dict[str, Any]:
    """The JSON object of a response. Raises ValueError."""
    raw = bytearray()
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > _MAX_LIST_BYTES:
            raise ValueError("too long")
    body = orjson.loads(raw)
    if not isinstance(body, dict):
        raise ValueError("not an object")
    return body


def _retry_after(error: APIStatusError) -> int | None:
    """Seconds, from either form of Retry-After; a day at most."""
    value = error.response.headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, IndexError):
            return None
    return math.ceil(min(max(seconds, 0.0), 86_400.0)) if math.isfinite(seconds) else None


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Reads to the end of a body whose answer is complete; it is close behind, as a rule.

    Only then is the connection kept, and the next answer needs no new one.
    """
    with contextlib.suppress(TimeoutError, httpx2.HTTPError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in chunks:
                pass


def _refuses_images(error: OpenAIError, messages: Sequence[dict[str, Any]]) -> bool:
    """Whether a request was refused since it has images. There is no common code for that."""
    if not isinstance(error, APIStatusError) or error.status_code not in _NO_IMAGES_STATUS:
        return False
    if not any(isinstance(message["content"], list) for message in messages):
        return False
    code, kind, _, message = _details(error.body)
    return code not in _OTHER_CODES and bool(_NO_IMAGES.search(f"{code} {kind} {message}"))


def _refuses_tools(error: OpenAIError) -> bool:
    """Whether a request was refused since it offers tools. There is no common code for that."""
    if not isinstance(error, APIStatusError) or error.status_code not in _NO_IMAGES_STATUS:
        return False
    code, kind, param, message = _details(error.body)
    if code in _OTHER_CODES:
        return False
    return param in ("tools", "tool_choice") or bool(_NO_TOOLS.search(f"{code} {kind} {message}"))


def _was_dropped(error: APIConnectionError) -> bool:
    return any(
        isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
        and not isinstance(cause, aiohttp.ClientConnectorError)
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(found) < 10:
        found.append(cause)
        inner = getattr(cause, "os_error", None)
        if isinstance(inner, BaseException):
            found.append(inner)
        cause = cause.__cause__ or cause.__context__
    return found


def _sorted_models(names: list[str]) -> tuple[str, ...]:
    """Chat models first, the preferred ones before them; the rest keeps the provider's order."""
    chat = [name for name in names if not any(word in name for word in _NOT_FOR_CHAT)]
    first = [name for name in PREFERRED_MODELS if name in chat]
    return tuple(dict.fromkeys([*first, *chat, *names]))
