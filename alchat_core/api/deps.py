"""What a route gets handed in: the services of the process and the user of the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.responses import Response

from alchat_core.accounts.service import AccountService
from alchat_core.attachments.service import AttachmentService
from alchat_core.auth import User, Verifier
from alchat_core.conversations.assistants import AssistantService
from alchat_core.conversations.copies import CopyService
from alchat_core.conversations.feedback import FeedbackService
from alchat_core.conversations.service import ConversationService
from alchat_core.conversations.shelves import ShelfService
from alchat_core.db.engine import Database
from alchat_core.exports.archive import Exports
from alchat_core.imports.service import ImportService
from alchat_core.metrics import Metrics
from alchat_core.runs.log import EventLog
from alchat_core.runs.service import RunService
from alchat_core.settings import Settings
from alchat_core.shares.service import ShareService
from alchat_core.tools.toolbox import Toolbox
from alchat_core.usage.service import UsageService


@dataclass(frozen=True, slots=True)
class Services:
    """Built once by `alchat_core.api.app`."""

    settings: Settings
    database: Database
    verifier: Verifier
    conversations: ConversationService
    copies: CopyService
    assistants: AssistantService
    feedback: FeedbackService
    shelves: ShelfService
    exports: Exports
    imports: ImportService
    shares: ShareService
    accounts: AccountService
    attachments: AttachmentService
    runs: RunService
    toolbox: Toolbox
    usage: UsageService
    events: EventLog
    metrics: Metrics


async def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


async def current_user(request: Request) -> User:
    """Raises `Unauthenticated`."""
    found: Services = request.app.state.services
    return await found.verifier.verify(request.headers.get("authorization"))


# Only for the API description; `current_user` is what decides.
bearer = HTTPBearer(
    auto_error=False,
    scheme_name="userToken",
    description="The user token that Papita issues for AL-Chat.",
)

UserOf = Annotated[User, Depends(current_user)]
ServicesOf = Annotated[Services, Depends(services)]


def json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(body),
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )
