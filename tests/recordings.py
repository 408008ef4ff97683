"""Recordings for tests, as a browser makes them."""

from __future__ import annotations

import io
import math
import struct
import wave

RATE = 16_000


def recording(seconds: float = 0.5) -> bytes:
    """A tone as WAV, 16 bits, one channel."""
    count = round(seconds * RATE)
    tone = (round(8000 * math.sin(number * 440 * math.tau / RATE)) for number in range(count))
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(struct.pack(f"<{count}h", *tone))
    return made.getvalue()
