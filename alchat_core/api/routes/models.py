"""The models that the user's credential reaches."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.schemas import ModelList

router = APIRouter(prefix="/api", tags=["models"])


@router.get(
    "/models", response_model=ModelList, summary="Models of your credential, the default first"
)
async def list_models(user: UserOf, services: ServicesOf) -> Response:
    found = await services.runs.models(user)
    return json(
        {"models": [{"id": name} for name in found], "default": found[0] if found else None}
    )
