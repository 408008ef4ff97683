"""Files for messages: upload, read, delete."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.schemas import AttachmentBody
from alchat_core.attachments.models import Attachment
from alchat_core.errors import InvalidInput

router = APIRouter(prefix="/api/attachments", tags=["attachments"])

_ANY_BYTES: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {}}}}
# Whatever a file holds: a browser saves it, and would run nothing of it.
SAFE = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@router.post(
    "",
    response_model=AttachmentBody,
    status_code=201,
    summary="Upload a file: its bytes are the body",
    openapi_extra={"requestBody": {"required": True, **_ANY_BYTES}},
)
async def upload_attachment(
    request: Request,
    user: UserOf,
    services: ServicesOf,
    name: Annotated[
        str,
        Query(
            min_length=1,
            max_length=200,
            description="The name of the file. What kind it is of is seen from its bytes.",
        ),
    ],
) -> Response:
    try:
        made = await services.attachments.add(user.id, _plain(name), request.stream())
    except ClientDisconnect:
        # Nobody is there to read it.
        return Response(status_code=400)
    return json(made.as_json(), 201, {"Location": f"/api/attachments/{made.id}"})


@router.get("/{attachment_id}", response_model=AttachmentBody, summary="What it is")
async def get_attachment(attachment_id: str, user: UserOf, services: ServicesOf) -> Response:
    return json((await services.attachments.get(user.id, attachment_id)).as_json())


@router.get(
    "/{attachment_id}/content",
    summary="The file as it was uploaded",
    response_class=Response,
    responses={200: {"content": {"*/*": {"schema": {}}}}},
)
async def get_attachment_content(
    attachment_id: str, user: UserOf, services: ServicesOf
) -> Response:
    found, path = await services.attachments.content(user.id, attachment_id)
    return FileResponse(
        path,
        media_type=found.media_type,
        headers={**SAFE, "Content-Disposition": _disposition(found)},
    )


@router.delete("/{attachment_id}", status_code=204, summary="Delete the file")
async def delete_attachment(attachment_id: str, user: UserOf, services: ServicesOf) -> Response:
    await services.attachments.delete(user.id, attachment_id)
    return Response(status_code=204)


def _plain(name: str) -> str:
    """The last part of a path, on one line. Raises `InvalidInput` if nothing is left."""
    last = re.split(r"[/\\]", name)[-1]
    plain = " ".join("".join(sign if sign.isprintable() else " " for sign in last).split())
    if plain.strip(". ") == "":
        raise InvalidInput("name: give the name of the file.")
    return plain


def _disposition(found: Attachment) -> str:
    """RFC 6266, with a plain name for old programs."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", found.name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(found.name, safe='')}"
