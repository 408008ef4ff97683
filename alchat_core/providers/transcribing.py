"""Which models turn speech into text, and which recordings they are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from alchat_core.errors import RUN_ERRORS, RunError

PATH: Final = "/audio/transcriptions"
# Asked in this order where a provider lists several: OpenAI's, then those of Groq and others.
PREFERRED: Final = (
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe",
    "whisper-large-v3-turbo",
    "whisper-large-v3",
    "whisper-1",
)
_SIGNS = ("transcribe", "whisper")
# Of another protocol; and one that needs to be told how to cut a recording into pieces.
_OTHERWISE = ("realtime", "diarize")

# The file is named anew: providers go by the ending.
ENDINGS: Final[Mapping[str, str]] = {
    "audio/wav": "wav",
    "audio/webm": "webm",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/ogg": "ogg",
}

_SENTENCES = {
    "bad-request": "The provider could not use this recording. Record it again, or type instead.",
    "context-too-long": "The recording is too long for the provider. Record less at a time.",
    "model-not-found": "The provider does not know the model that turns speech into text, or your"
    " key may not use it. Type instead, and tell an administrator.",
    "content-filtered": "The provider's content filter stopped this. Record something else, or"
    " type instead.",
}


@dataclass(frozen=True, slots=True)
class Recording:
    """`media_type` is one of `ENDINGS`."""

    data: bytes = field(repr=False)
    media_type: str

    @property
    def name(self) -> str:
        return f"speech.{ENDINGS[self.media_type]}"


def only_transcribes(model: str) -> bool:
    """Whether a model is of no use in a chat, since all that it does is to write down speech."""
    name = model.lower()
    return any(sign in name for sign in _SIGNS)


def for_chat(models: Iterable[str]) -> tuple[str, ...]:
    """Without those that only transcribe."""
    return tuple(model for model in models if not only_transcribes(model))


def transcriber(models: Iterable[str]) -> str | None:
    """The one to be asked, if there is one."""
    found = [model for model in models if only_transcribes(model)]
    found = [model for model in found if not any(word in model.lower() for word in _OTHERWISE)]
    # Gateways put the vendor before the name: `openai/whisper-1`.
    by_name = {model.rpartition("/")[2].lower(): model for model in reversed(found)}
    return next((by_name[name] for name in PREFERRED if name in by_name), next(iter(found), None))


def audio_type(data: bytes) -> str | None:
    """What kind of recording these bytes are; None for any that is not taken."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "audio/wav"
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "audio/webm"
    if data[:4] == b"OggS":
        return "audio/ogg"
    if data[4:8] == b"ftyp":
        return "audio/mp4"
    # A tag, or the first frame: eleven bits that are set, and the third layer.
    if data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2):
        return "audio/mpeg"
    return None


def of_a_recording(error: RunError) -> RunError:
    """The same error, where its sentence is about answers in words about a recording."""
    sentence = _SENTENCES.get(error.code)
    if sentence is None or error.message != RUN_ERRORS[error.code].message:
        return error
    return RunError(error.code, sentence, retry_after=error.retry_after)


def tokens_of(body: Mapping[str, Any]) -> dict[str, int] | None:
    """The tokens of an answer; some models are paid for by the second and tell none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    found = {
        ours: usage[theirs]
        for ours, theirs in (
            ("promptTokens", "input_tokens"),
            ("completionTokens", "output_tokens"),
            ("totalTokens", "total_tokens"),
        )
        if type(usage.get(theirs)) is int
    }
    return found or None
