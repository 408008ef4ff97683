"""What the scripted provider hears: how long a recording is, and nothing of what is said in it."""

from __future__ import annotations

import io
import wave

# A key that begins like this reaches a model that transcribes.
HEARING_PREFIX = "sk-demo-hears-"
HEARING_MODEL = "whisper-demo"
_PREFIX = "whisper-"


def script_name(model: str) -> str | None:
    """The model whose script is played: `whisper-error-500` fails like `error-500`.

    None for a model that does not transcribe.
    """
    return model.removeprefix(_PREFIX) if model.startswith(_PREFIX) else None


def heard(data: bytes, name: str, language: str | None = None) -> str:
    """The text of a recording; it follows from its length and its ending."""
    kind = name.rpartition(".")[2].upper()
    spoken = f" in {language}" if language else ""
    seconds = _seconds(data)
    if seconds is None:
        return f"I heard a recording of {len(data)} bytes of {kind}{spoken}."
    return f"I heard {seconds:.1f} seconds of {kind}{spoken}."


def _seconds(data: bytes) -> float | None:
    try:
        with wave.open(io.BytesIO(data)) as recording:
            seconds: float = recording.getnframes() / recording.getframerate()
            return seconds
    except (wave.Error, EOFError):
        return None
