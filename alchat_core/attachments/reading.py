"""Has a file read by `worker.py` in a process apart (`alchat_core.sandbox`), and says what it is.

A few at a time; more wait. Whatever becomes of that process is a sentence for the user.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import orjson

from alchat_core.errors import UnreadableAttachment, UnsupportedAttachment
from alchat_core.sandbox.process import Limits, sandboxed
from alchat_core.settings import Settings

log = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("worker.py")
AT_ONCE = 2
MAX_RESULT_BYTES = 500_000_000
_SENTENCES = {
    "broken": "The file is damaged, or not what it seems to be."
    " Open it, save it anew and upload it again.",
    "encrypted": "The PDF is protected by a password. Save it without one and upload it again.",
    "packed": "The file unpacks to far more than a document needs."
    " Save it anew, or upload its text.",
    "too-much-text": "The file holds more text than AL-Chat takes from one file."
    " Split it and upload the parts.",
    "no-text": "There is no text in this file. Where it is a scan, have its text recognised first,"
    " or upload its pages as images.",
    "image-too-large": "The image has too many pixels or bytes. Make it smaller and upload it"
    " again.",
    "limits": "Reading this file takes more time or memory than AL-Chat allows."
    " Save it anew, split it or upload its text.",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """`pages` is None for what has none, `characters` 0 for images."""

    kind: str
    media_type: str
    pages: int | None
    characters: int


class Reader:
    """Built once per process."""

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.alchat_attachment_seconds
        self._limits = Limits(
            settings.alchat_attachment_memory_mb * 1024 * 1024,
            max(1, round(self._seconds)),
            MAX_RESULT_BYTES,
        )
        self._most = orjson.dumps(
            {
                "characters": settings.alchat_attachment_max_chars,
                "pixels": settings.alchat_attachment_max_pixels,
                "imageBytes": settings.alchat_attachment_image_bytes,
            }
        ).decode()
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def read(self, source: Path, target: Path, name: str) -> Reading:
        """Text goes into `target`; of the name only its ending is looked at.

        Raises `UnsupportedAttachment`, `UnreadableAttachment`."""
        async with self._turn:
            printed = await self._run(source, target, Path(name).suffix[:16])
        try:
            found = orjson.loads(printed)
            if "error" not in found:
                return Reading(
                    found["kind"], found["mediaType"], found["pages"], found["characters"]
                )
            code = found["error"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            code = "limits"
        log.info("an attachment was refused", extra={"code": code})
        if code == "unsupported":
            raise UnsupportedAttachment
        raise UnreadableAttachment(_SENTENCES[code])

    async def _run(self, source: Path, target: Path, ending: str) -> bytes:
        """What the worker prints; nothing if it did not end well."""
        task = str(source), str(target), ending, self._most
        async with sandboxed(WORKER, *task, limits=self._limits) as process:
            try:
                async with asyncio.timeout(self._seconds):
                    printed, _ = await process.communicate()
            except TimeoutError:
                return b""
        return printed if process.returncode == 0 else b""
