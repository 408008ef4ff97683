"""Alive and ready."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, json
from alchat_core.api.problems import problem
from alchat_core.api.schemas import HealthBody, Problem

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=HealthBody, summary="Alive")
async def healthz() -> Response:
    return json({"status": "ok"})


@router.get(
    "/readyz",
    response_model=HealthBody,
    responses={503: {"model": Problem}},
    summary="Ready: own database and Papita can be reached",
)
async def readyz(services: ServicesOf) -> Response:
    try:
        await services.database.ping()
    except (SQLAlchemyError, OSError):
        return problem(503, "database-unreachable", "AL-Chat cannot reach its own database.")
    if not await services.verifier.papita_ready():
        return problem(
            503,
            "papita-unreachable",
            "AL-Chat cannot reach Papita. Check PAPITA_API_URL and that the portal runs.",
        )
    return json({"status": "ok"})
