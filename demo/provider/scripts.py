"""What each model name does, as values: the tokens, their timing, and how the answer goes wrong.

`script_for` is a pure function of the request, so a test can ask it for the text that a run has
to end up with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from demo.provider.answers import answer_to, title_for

PLEASANT_MODELS = ("demo", "demo-fast", "echo")
WORDS_PER_PARAGRAPH = 60

Ending = Literal["stop", "length", "content_filter", "tool_calls", "cut", "reset", "error", "stall"]

_SENTENCE = (
    "the quick brown potato grows under warm soil while rain falls on green leaves and a "
    "patient gardener counts small white flowers before summer brings the harvest home to "
    "people who share bread salt and stories around one long wooden table"
)
_WORDS = tuple(_SENTENCE.split())


@dataclass(frozen=True)
class Refusal:
    """An HTTP error in the shape that OpenAI sends."""

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None
    retry_after: int | None = None
    as_date: bool = False

    def body(self) -> dict[str, Any]:
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


@dataclass(frozen=True)
class Script:
    """One answer. Times are seconds; token `i` is due `first + i * interval` after the request."""

    tokens: tuple[str, ...] = ()
    interval: float = 0.0
    first: float = 0.0
    ending: Ending = "stop"
    newline: bytes = b"\n"
    broken_at: int | None = None
    comments: bool = False
    done: bool = True
    usage: bool = True
    split: bool = False
    dribble: bool = False
    hang: bool = False
    refusal: Refusal | None = None
    fails: int = 0
    refused_parameter: str = ""
    window: int | None = None
    thoughts: tuple[str, ...] = ()
    thought_name: str = "reasoning_content"
    calls: tuple[tuple[str, str], ...] = ()  # of tools: name and arguments

    @property
    def drops(self) -> bool:
        """Whether its failures close the connection with no answer at all."""
        return self.refusal is not None and self.refusal.status == 0

    @property
    def text(self) -> str:
        return "".join(self.tokens)


class UnknownModelError(LookupError):
    """No script has this name."""


def words(count: int) -> tuple[str, ...]:
    """`count` deterministic tokens, one word each, in paragraphs of 60 words."""
    tokens = []
    for index in range(count):
        word = _WORDS[index % len(_WORDS)]
        last = index == count - 1 or index % WORDS_PER_PARAGRAPH == WORDS_PER_PARAGRAPH - 1
        if index % WORDS_PER_PARAGRAPH == 0:
            word = word.capitalize()
        end = "." if last else " "
        if last and index != count - 1:
            end = ".\n\n"
        tokens.append(word + end)
    return tuple(tokens)


def tokenise(text: str) -> tuple[str, ...]:
    """Cuts text into words with the white space that follows them; joined they are the text."""
    return tuple(re.findall(r"\s*\S+\s*|\s+", text))


def unknown_model(model: str) -> Refusal:
    return Refusal(
        404,
        f"The model `{model[:100]}` does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    )


WRONG_KEY = Refusal(
    401,
    "Incorrect API key provided. You can find your API key at "
    "https://platform.openai.com/account/api-keys.",
    "invalid_request_error",
    "invalid_api_key",
)

MIDSTREAM_ERROR = Refusal(
    500,
    "The server had an error while processing your request. Sorry about that!",
    "server_error",
)

OLD_NAME = Refusal(
    400,
    "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead.",
    "invalid_request_error",
    "unsupported_parameter",
    "max_tokens",
)

REFUSALS: Mapping[str, Refusal] = {
    "error-401": WRONG_KEY,
    "error-403": Refusal(
        403,
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    "error-429": Refusal(
        429,
        "Rate limit reached for requests. Please try again in 7s.",
        "requests",
        "rate_limit_exceeded",
        retry_after=7,
    ),
    "error-500": MIDSTREAM_ERROR,
    "error-503": Refusal(
        503, "The engine is currently overloaded, please try again later", "service_unavailable"
    ),
    "error-quota": Refusal(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "error-context": Refusal(
        400,
        "This model's maximum context length is 4096 tokens. However, your messages resulted in "
        "5000 tokens. Please reduce the length of the messages.",
        "invalid_request_error",
        "context_length_exceeded",
        "messages",
    ),
    "error-filter": Refusal(
        400,
        "The response was filtered due to the prompt triggering the content management policy. "
        "Please modify your prompt and retry.",
        "invalid_request_error",
        "content_filter",
        "prompt",
    ),
    "error-bad-request": Refusal(
        400,
        "Unsupported value: 'temperature' does not support 0.2 with this model.",
        "invalid_request_error",
        "unsupported_value",
        "temperature",
    ),
}

_ORDINARY = Script(tokens=words(40), interval=0.005)

_FIXED: Mapping[str, Script] = {
    **{name: Script(refusal=refusal) for name, refusal in REFUSALS.items()},
    "hang": Script(hang=True),
    "empty": Script(),
    "malformed": replace(_ORDINARY, broken_at=20),
    "no-done": replace(_ORDINARY, done=False),
    "no-usage": replace(_ORDINARY, usage=False),
    "thinking": replace(_ORDINARY, thoughts=words(15)),
    "thinking-router": replace(_ORDINARY, thoughts=words(15), thought_name="reasoning"),
    "thinking-cut": replace(_ORDINARY, tokens=(), thoughts=words(15), ending="cut"),
    "responses-only": _ORDINARY,
    "chat-only": _ORDINARY,
    "o3-thinking": replace(_ORDINARY, thoughts=words(15)),
    "o3-unverified": replace(_ORDINARY, thoughts=words(15)),
    "no-images": _ORDINARY,
    "no-tools": _ORDINARY,
    "tools": _ORDINARY,
    "new-names": replace(_ORDINARY, refused_parameter="max_tokens"),
    "crlf": replace(_ORDINARY, newline=b"\r\n"),
    "comments": replace(_ORDINARY, comments=True),
    "error-midstream": replace(_ORDINARY, tokens=words(20), ending="error"),
    "filter-midstream": replace(_ORDINARY, tokens=words(20), ending="content_filter"),
    "split": Script(
        tokens=tokenise("Grüße aus dem Kartoffelacker 🥔, ¡hola papita!, こんにちは."),
        interval=0.005,
        split=True,
    ),
    "dribble": Script(tokens=words(8), dribble=True),
}


def _stream(tokens: int, milliseconds: int) -> Script:
    return Script(tokens=words(tokens), interval=milliseconds / 1000)


def _lumps(count: int, kilobytes: int) -> Script:
    return Script(tokens=("potato, x " * 100 * kilobytes,) * count, interval=0.01)


_PATTERNS: tuple[tuple[re.Pattern[str], Callable[..., Script]], ...] = (
    (re.compile(r"stream-(\d{1,6})-(\d{1,5})"), _stream),
    (re.compile(r"lump-(\d{1,4})"), lambda kb: _lumps(1, kb)),
    (re.compile(r"lumps-(\d{1,4})-(\d{1,4})"), lambda n, kb: _lumps(n, kb)),
    (re.compile(r"slow-first-(\d{1,6})"), lambda ms: replace(_ORDINARY, first=ms / 1000)),
    (re.compile(r"cut-(\d{1,6})"), lambda n: replace(_ORDINARY, tokens=words(n), ending="cut")),
    (re.compile(r"reset-(\d{1,6})"), lambda n: replace(_ORDINARY, tokens=words(n), ending="reset")),
    (re.compile(r"stall-(\d{1,6})"), lambda n: replace(_ORDINARY, tokens=words(n), ending="stall")),
    (
        re.compile(r"thinking-(\d{1,4})-(\d{1,5})"),
        lambda n, ms: replace(_ORDINARY, thoughts=words(n), interval=ms / 1000),
    ),
    (re.compile(r"window-(\d{1,6})"), lambda n: replace(_ORDINARY, window=n)),
    (
        re.compile(r"error-429-(\d{1,5})"),
        lambda s: Script(refusal=replace(REFUSALS["error-429"], retry_after=s)),
    ),
)


def _flaky(fails: int, status: int, seconds: int | None = None, date: str = "") -> Script:
    known = {int(name[6:]): one for name, one in REFUSALS.items() if name[6:].isdigit()}
    refusal = known.get(status, Refusal(status, "Try again.", "server_error"))
    refusal = replace(refusal, retry_after=seconds, as_date=bool(date))
    return replace(_ORDINARY, fails=fails, refusal=refusal)


def _cut_once(first: int, total: int, kept: str) -> Script:
    if kept:
        return replace(_ORDINARY, tokens=words(total))
    return replace(_ORDINARY, tokens=words(total)[:first], ending="cut")


def script_for(model: str, question: str = "", kept: str = "") -> Script:
    """The script of a model name; `question` is the last user message.

    `kept` is the beginning of an answer that is to be gone on with: what is left to say comes back.
    Raises UnknownModelError for a name that has none.
    """
    script = _script_for(model, question, kept)
    return replace(script, tokens=_after(script.tokens, kept)) if kept else script


def _after(tokens: tuple[str, ...], kept: str) -> tuple[str, ...]:
    """The tokens without the text that is there already; all of them if it is another text."""
    text = "".join(tokens)
    if not text.startswith(kept):
        return tokens
    left = len(kept)
    for index, token in enumerate(tokens):
        if left < len(token):
            return (token[left:], *tokens[index + 1 :])
        left -= len(token)
    return ()


def _script_for(model: str, question: str, kept: str) -> Script:
    if model in PLEASANT_MODELS and (title := title_for(question)):
        return Script(tokens=tokenise(title), interval=0.002)
    if model in ("demo", "demo-fast"):
        interval = 0.022 if model == "demo" else 0.002
        first = 0.35 if model == "demo" else 0.0
        return Script(tokens=tokenise(answer_to(question)), interval=interval, first=first)
    if model in ("echo", "echo-all"):
        return Script(tokens=tokenise(question))
    if (fixed := _FIXED.get(model)) is not None:
        return fixed
    if match := re.fullmatch(r"cut-once-(\d{1,6})-(\d{1,6})", model):
        return _cut_once(int(match[1]), int(match[2]), kept)
    if match := re.fullmatch(r"flaky-cut-(\d{1,3})-(\d{1,3})", model):
        flaky = _flaky(int(match[1]), int(match[2]))
        return replace(_cut_once(7, 30, kept), fails=flaky.fails, refusal=flaky.refusal)
    if match := re.fullmatch(r"flaky-(\d{1,3})-(\d{1,3})(?:-(\d{1,5})(d?))?", model):
        seconds = int(match[3]) if match[3] else None
        return _flaky(int(match[1]), int(match[2]), seconds, match[4] or "")
    for pattern, make in _PATTERNS:
        if match := pattern.fullmatch(model):
            return make(*map(int, match.groups()))
    raise UnknownModelError(model)


def limited(script: Script, most: int | None) -> Script:
    """The same answer broken off after `most` tokens, as `max_completion_tokens` asks."""
    if most is None or most >= len(script.tokens):
        return script
    return replace(script, tokens=script.tokens[:most], ending="length")
