"""`/api/credential-types`: which kinds of credentials can be kept."""

from __future__ import annotations

from fastapi import APIRouter

from papita_core.api.deps import CallingActor
from papita_core.api.routes.credentials import problems_for
from papita_core.api.schemas import CredentialTypeList, CredentialTypeView
from papita_core.credential_types import CREDENTIAL_TYPES

router = APIRouter(tags=["credentials"], responses=problems_for(401, 403))


@router.get(
    "/credential-types",
    response_model=CredentialTypeList,
    operation_id="listCredentialTypes",
    summary="The types of credentials, with their fields and addresses",
)
def list_types(caller: CallingActor) -> CredentialTypeList:
    """For every caller; the types are the same for all."""
    return CredentialTypeList(
        credential_types=[CredentialTypeView.of(kind) for kind in CREDENTIAL_TYPES.values()]
    )
