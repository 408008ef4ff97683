"""Snapshots for other users of the portal."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from alchat_core.api.deps import ServicesOf, UserOf, json
from alchat_core.api.schemas import ConversationBody
from alchat_core.api.transfer_schemas import NewShare, ShareBody, SharedBody, ShareList

router = APIRouter(prefix="/api", tags=["shares"])


@router.post(
    "/conversations/{conversation_id}/shares",
    response_model=ShareBody,
    status_code=201,
    summary="Share a snapshot of the active branch",
)
async def create_share(
    conversation_id: str, user: UserOf, services: ServicesOf, body: NewShare | None = None
) -> Response:
    users = body.users if body else None
    made = await services.shares.create(user, conversation_id, users)
    return json(made.as_json(), 201, {"Location": f"/api/shared/{made.id}"})


@router.get(
    "/conversations/{conversation_id}/shares",
    response_model=ShareList,
    summary="The snapshots of one conversation",
)
async def list_shares_of_conversation(
    conversation_id: str, user: UserOf, services: ServicesOf
) -> Response:
    found = await services.shares.of_conversation(user.id, conversation_id)
    return json({"shares": [share.as_json() for share in found]})


@router.get("/shares", response_model=ShareList, summary="All snapshots that you share")
async def list_shares(user: UserOf, services: ServicesOf) -> Response:
    found = await services.shares.mine(user.id)
    return json({"shares": [share.as_json() for share in found]})


@router.delete("/shares/{share_id}", status_code=204, summary="Revoke a snapshot")
async def revoke_share(share_id: str, user: UserOf, services: ServicesOf) -> Response:
    await services.shares.revoke(user.id, share_id)
    return Response(status_code=204)


@router.get(
    "/shared/{share_id}", response_model=SharedBody, summary="Read what somebody shares with you"
)
async def read_shared(share_id: str, user: UserOf, services: ServicesOf) -> Response:
    return json((await services.shares.read(user, share_id)).as_json())


@router.post(
    "/shared/{share_id}/copy",
    response_model=ConversationBody,
    status_code=201,
    summary="Go on with it in a conversation of your own",
)
async def copy_shared(share_id: str, user: UserOf, services: ServicesOf) -> Response:
    made = await services.shares.copy(user, share_id)
    found = await services.conversations.get(user.id, made)
    return json(found.as_json(), 201, {"Location": f"/api/conversations/{made}"})
