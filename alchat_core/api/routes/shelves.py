"""The folders and tags that are in use."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.schemas import FolderList, TagList

router = APIRouter(prefix="/api", tags=["conversations"])


@router.get("/folders", response_model=FolderList, summary="Folders in use")
async def list_folders(user: UserOf, services: ServicesOf) -> Response:
    found = await services.shelves.folders(user.id)
    return json({"folders": [shelf.as_json() for shelf in found]})


@router.get("/tags", response_model=TagList, summary="Tags in use")
async def list_tags(user: UserOf, services: ServicesOf) -> Response:
    found = await services.shelves.tags(user.id)
    return json({"tags": [shelf.as_json() for shelf in found]})
