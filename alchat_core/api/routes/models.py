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
    found, transcribes = await services.runs.models(user)
    return json(
        {
            "models": [
                {
                    "id": model.id,
                    "inputUsd": model.input_usd,
                    "outputUsd": model.output_usd,
                    "contextWindow": model.context_window,
                }
                for model in found
            ],
            "default": found[0].id if found else None,
            "transcribes": transcribes,
        }
    )
