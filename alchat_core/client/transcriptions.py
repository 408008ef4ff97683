"""Speech into text."""

from __future__ import annotations

from alchat_core.client.calls import Calls, given

# The provider listens to all of it before it answers.
LISTENING_SECONDS = 180.0


class TranscriptionCalls(Calls):
    def transcribe(self, data: bytes, media_type: str, language: str | None = None) -> str:
        """What is said in a recording; `language` is a code such as `en`, found out without it.

        Raises `AlChatProblem` if the user's provider has no model for that.
        """
        found = self._send_file(
            "/api/transcriptions",
            files={"file": ("speech", data, media_type)},
            data=given(language=language),
            timeout=LISTENING_SECONDS,
        )
        text: str = found["text"]
        return text
