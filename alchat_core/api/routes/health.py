"""Alive, ready, and the numbers of the process."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, json
from alchat_core.api.problems import problem
from alchat_core.api.schemas import HealthBody, Problem
from alchat_core.errors import DatabaseUnavailable, ShuttingDown
from alchat_core.metrics import CONTENT_TYPE

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
        raise DatabaseUnavailable from None
    if services.runs.stopping:
        raise ShuttingDown
    if services.runs.events.stuck:
        return problem(
            503,
            DatabaseUnavailable.code,
            "AL-Chat cannot write its event log: the disk is full or faulty, or the database is"
            " away. Events are held in memory and tried again; make room, or restart the database.",
        )
    if not await services.verifier.papita_ready():
        return problem(
            503,
            "papita-unreachable",
            "AL-Chat cannot reach Papita. Check PAPITA_API_URL and that the portal runs.",
        )
    return json({"status": "ok"})


@router.get(
    "/metrics",
    summary="Prometheus metrics of this process",
    response_class=Response,
    responses={
        200: {
            "content": {"text/plain": {"schema": {"type": "string"}}},
            "description": "Prometheus' text format, without any content.",
        }
    },
)
async def metrics(services: ServicesOf) -> Response:
    return Response(
        services.metrics.text(), media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"}
    )
