"""Recordings that the user's provider turns into text."""

from __future__ import annotations

import re
import sys
from typing import Any

from fastapi import APIRouter
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.schemas import TranscriptionBody
from alchat_core.errors import InvalidInput, UnsupportedRecording
from alchat_core.providers.transcribing import Recording, audio_type

PATH = "/api/transcriptions"
# What a form has around the file in it.
AROUND_BYTES = 16 * 1024
LANGUAGE = r"[a-z]{2,3}"

router = APIRouter(prefix="/api", tags=["transcriptions"])

_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "WAV, WebM, MP3, M4A or Ogg, as is seen from its bytes.",
                    },
                    "language": {
                        "type": "string",
                        "pattern": f"^{LANGUAGE}$",
                        "description": "In which language is spoken, by ISO 639. Without it the"
                        " model finds out.",
                    },
                },
            }
        }
    },
}


class _InMemory(MultiPartParser):
    """What somebody said is written to no disk."""

    spool_max_size = sys.maxsize


@router.post(
    "/transcriptions",
    response_model=TranscriptionBody,
    summary="What is said in a recording",
    openapi_extra={"requestBody": _BODY},
)
async def transcribe(request: Request, user: UserOf, services: ServicesOf) -> Response:
    transcriptions = services.runs.transcriptions
    with transcriptions.turn(user.id):
        try:
            form = await _form(request)
        except ClientDisconnect:
            # Nobody is there to read it.
            return Response(status_code=400)
        try:
            recording = await _recording(form, services.settings.alchat_recording_bytes)
            language = _language(form)
        finally:
            await form.close()
        text = await transcriptions.transcribe(user, recording, language)
    return json({"text": text})


async def _form(request: Request) -> FormData:
    """Raises `InvalidInput`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise InvalidInput("body: send the recording as multipart/form-data.")
    try:
        return await _InMemory(
            request.headers, request.stream(), max_files=1, max_fields=1, max_part_size=1000
        ).parse()
    except MultiPartException:
        raise InvalidInput(
            "body: send one recording as multipart/form-data, and nothing beside it but language."
        ) from None


async def _recording(form: FormData, limit: int) -> Recording:
    found = form.get("file")
    if not isinstance(found, UploadFile):
        raise InvalidInput("file: send the recording as a file of the form.")
    if set(form) - {"file", "language"}:
        raise InvalidInput("body: There is a field that this route does not know.")
    data = await found.read()
    if len(data) > limit:
        raise HTTPException(413)
    media_type = audio_type(data)
    if media_type is None:
        raise UnsupportedRecording
    return Recording(data, media_type)


def _language(form: FormData) -> str | None:
    found = form.get("language")
    if found is None or (isinstance(found, str) and re.fullmatch(LANGUAGE, found)):
        return found
    raise InvalidInput("language: give the code of a language, such as en.")
