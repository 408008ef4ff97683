"""The end of an account."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf
from alchat_core.errors import InvalidInput

router = APIRouter(prefix="/api", tags=["account"])


@router.delete(
    "/account", status_code=204, summary="Delete everything that there is of you, for good"
)
async def delete_account(
    user: UserOf,
    services: ServicesOf,
    confirm: Annotated[
        str, Query(max_length=200, description="Your user name: nobody does this by a slip.")
    ],
) -> Response:
    """Conversations, files, prompts and assistants, tool servers, snapshots. Answers that are being
    written stop. There is no undo.
    """
    if confirm.strip().casefold() != user.username.casefold():
        raise InvalidInput("confirm: this has to be your user name. Nothing was deleted.")
    await services.accounts.erase(user.id, user.username)
    return Response(status_code=204)
