"""The one place that builds AL-Chat: engine, services, routes. Nothing connects at import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI

from alchat_core.accounts.erasures import Erasures
from alchat_core.accounts.service import AccountService
from alchat_core.api import description, problems, tracing
from alchat_core.api.deps import Services, bearer
from alchat_core.api.lane import Lane
from alchat_core.api.routes import (
    account,
    answers,
    assistants,
    attachments,
    conversations,
    exports,
    feedback,
    health,
    imports,
    models,
    runs,
    search,
    shares,
    shelves,
    tool_servers,
    transcriptions,
    usage,
)
from alchat_core.api.schemas import Problem
from alchat_core.attachments.files import Files
from alchat_core.attachments.service import AttachmentService
from alchat_core.auth import Verifier
from alchat_core.conversations.assistants import AssistantService
from alchat_core.conversations.copies import CopyService
from alchat_core.conversations.feedback import FeedbackService
from alchat_core.conversations.housekeeping import Housekeeping
from alchat_core.conversations.service import ConversationService
from alchat_core.conversations.shelves import ShelfService
from alchat_core.credential_manager import CredentialManager
from alchat_core.db.engine import Database
from alchat_core.exports.archive import Exports
from alchat_core.imports.service import ImportService
from alchat_core.metrics import Metrics
from alchat_core.papita import PapitaClient
from alchat_core.providers.openai_compatible import Provider
from alchat_core.runs.log import DatabaseLog
from alchat_core.runs.service import RunService
from alchat_core.settings import Settings
from alchat_core.shares.service import ShareService
from alchat_core.usage.service import UsageService

VERSION = "0.1.0"


def create_app(settings: Settings) -> FastAPI:
    """The service for a migrated database; it lives from start-up to shut-down of the app."""

    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = Database(settings.database)
        papita = PapitaClient(
            settings.papita_api_url, timeout=settings.alchat_papita_timeout, metrics=metrics
        )
        provider = Provider(settings)
        events = DatabaseLog(
            database,
            interval=settings.alchat_commit_interval_ms / 1000,
            patience=settings.alchat_storage_patience,
            metrics=metrics,
        )
        attached = AttachmentService(settings, database, Files(settings.attachments))
        credentials = CredentialManager(settings, papita)
        service = RunService(
            settings,
            database,
            events,
            credentials,
            provider,
            attached,
            metrics,
        )
        housekeeping = Housekeeping(
            database,
            attached,
            undo_minutes=settings.alchat_undo_minutes,
            temporary_minutes=settings.alchat_temporary_minutes,
        )
        accounts = AccountService(database, service, attached, housekeeping)
        erasures = Erasures(accounts, credentials, settings.alchat_erasure_seconds)
        app.state.services = Services(
            settings=settings,
            database=database,
            verifier=Verifier(papita),
            conversations=ConversationService(database, undo_minutes=settings.alchat_undo_minutes),
            copies=CopyService(database),
            assistants=AssistantService(database, limit=settings.alchat_max_assistants),
            feedback=FeedbackService(database),
            shelves=ShelfService(database),
            exports=Exports(database),
            shares=ShareService(database, limit=settings.alchat_max_shares),
            imports=ImportService(settings, database, imports.known_parameters),
            accounts=accounts,
            attachments=attached,
            runs=service,
            toolbox=service.toolbox,
            usage=UsageService(database),
            events=events,
            metrics=metrics,
        )
        await service.start()
        await housekeeping.start()
        await attached.start()
        erasures.start()
        events.start()
        try:
            yield
        finally:
            await erasures.stop()
            await service.stop(settings.alchat_stop_timeout)
            await housekeeping.stop()
            await events.stop()
            await provider.close()
            await papita.close()
            await database.close()

    refusal: dict[int | str, dict[str, Any]] = {
        "4XX": {"model": Problem, "description": "A problem, as application/problem+json."}
    }
    app = FastAPI(
        title="AL-Chat",
        version=VERSION,
        summary="A chat service that keeps no key of its own.",
        description="Errors are RFC 9457 problems with a stable `code`.",
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        strict_content_type=True,
        generate_unique_id_function=description.operation_id,
        # FastAPI's own would hold what exceptions say and what users send, and set the context that
        # libraries pass on; `alchat_core.telemetry` does neither.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    problems.install(app)
    description.install(app)
    app.add_middleware(Lane)
    app.add_middleware(
        problems.BodyLimit,
        limit=settings.alchat_max_body_bytes,
        others={
            "/api/attachments": settings.alchat_attachment_bytes,
            imports.PATH: settings.alchat_import_max_bytes,
            transcriptions.PATH: settings.alchat_recording_bytes + transcriptions.AROUND_BYTES,
        },
    )
    app.add_middleware(tracing.RequestIds)
    app.include_router(health.router)
    for router in (
        models.router,
        transcriptions.router,
        conversations.router,
        search.router,
        answers.router,
        runs.router,
        assistants.router,
        feedback.router,
        shelves.router,
        usage.router,
        attachments.router,
        exports.router,
        imports.router,
        shares.router,
        tool_servers.router,
        account.router,
    ):
        app.include_router(router, dependencies=[Depends(bearer)], responses=refusal)
    return app
