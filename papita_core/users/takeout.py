"""Everything that Papita has about a user, as one JSON document, without a single secret.

Each table is written with the columns that are named here: what is added to a table later is left
out until somebody says that it may be handed out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter, AuditLog, Entry
from papita_core.clock import Clock, utc_now
from papita_core.db import Base, Database, table_of
from papita_core.errors import Unauthenticated
from papita_core.grants.models import GrantRow, LeaseRow
from papita_core.usage.models import UsageDay
from papita_core.users.models import (
    AccessTokenRow,
    AttemptCounter,
    OidcAttempt,
    OidcIdentity,
    OneTimeLink,
    Passkey,
    PreferenceRow,
    RecoveryCode,
    SessionRow,
    TotpDevice,
    UserRow,
)
from papita_core.vault.models import Credential, CredentialShare, IdempotentRequest

FORMAT = "papita-account/1"
ACCOUNT = """
    id username display_name email email_verified_at role created_at last_sign_in_at disabled_at
    awaits_approval_since reset_asked_at
"""
# Name in the document, table, column that says whose it is, and what is handed out.
SECTIONS: tuple[tuple[str, type[Base], str, str], ...] = (
    ("preferences", PreferenceRow, "user_id", "name value"),
    (
        "sessions",
        SessionRow,
        "user_id",
        """
        id address user_agent created_at last_seen_at expires_at ended_at method second_factor
        proved_at remember oidc_issuer oidc_subject
        """,
    ),
    ("authenticatorApps", TotpDevice, "user_id", "created_at confirmed_at"),
    ("recoveryCodes", RecoveryCode, "user_id", "created_at used_at"),
    (
        "passkeys",
        Passkey,
        "user_id",
        "id name transports aaguid backed_up created_at last_used_at cloned_at",
    ),
    (
        "identities",
        OidcIdentity,
        "user_id",
        "provider issuer subject email created_at last_used_at",
    ),
    ("links", OneTimeLink, "user_id", "kind role created_at expires_at used_at revoked_at"),
    (
        "attempts",
        AttemptCounter,
        "user_id",
        "kind address count window_start expires_at",
    ),
    (
        "accessTokens",
        AccessTokenRow,
        "user_id",
        "id name scopes created_at expires_at last_used_at revoked_at",
    ),
    (
        "credentials",
        Credential,
        "owner_id",
        """
        id label credential_type project_id hint base_url status checked_at expires_at created_at
        updated_at last_used_at disabled_at blocked_at shared_with_all budget_nano budget_period
        spent_nano spent_since
        """,
    ),
    ("credentialsOfOthers", CredentialShare, "user_id", "credential_id created_at"),
    ("grants", GrantRow, "user_id", "id project_id credential_type created_at revoked_at"),
    (
        "leases",
        LeaseRow,
        "user_id",
        "id project_id credential_type created_at expires_at revoked_at",
    ),
    (
        "usage",
        UsageDay,
        "user_id",
        "day project_id credential_id model requests prompt_tokens completion_tokens cost_nano",
    ),
)
# What is gone by itself within minutes or a day, and says nothing but that something was asked.
LEFT_OUT = (OidcAttempt, IdempotentRequest)


class TakeoutService:
    def __init__(self, database: Database, audit: AuditLog, clock: Clock = utc_now) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def of(self, actor: Actor) -> Iterator[str]:
        """The document in pieces, as it is written. Raises at once what `Actor.require_proof`
        raises, and `Unauthenticated` where the account is gone.
        """
        actor.require("profile")
        now = self._clock()
        actor.require_proof(now)
        with self._database.read() as session:
            row = session.get(UserRow, actor.user_id)
            if row is None:
                raise Unauthenticated
            account = {_camel(name): getattr(row, name) for name in ACCOUNT.split()}
            found = {
                "format": FORMAT,
                "madeAt": now,
                "account": account | {"hasPassword": bool(row.password_hash)},
                **{
                    name: list(_rows(session, actor, model, owner, columns))
                    for name, model, owner, columns in SECTIONS
                },
            }
        entries = self._audit.export(actor, AuditFilter(user_id=actor.user_id))
        return _written(found, entries)


def _written(found: dict[str, Any], entries: Iterator[Entry]) -> Iterator[str]:
    yield _json(found)[:-1] + ', "auditEntries": ['
    between = ""
    for entry in entries:
        yield between + _json(_entry(entry))
        between = ",\n"
    yield "]}\n"


def _rows(
    session: Session, actor: Actor, model: Any, owner: str, columns: str
) -> Iterator[dict[str, Any]]:
    table = table_of(model)
    names = columns.split()
    query = select(*table.c[*names]).where(table.c[owner] == actor.user_id)
    for row in session.execute(query.order_by(*table.primary_key.columns)):
        values = dict(zip(map(_camel, names), row, strict=True))
        if model is PreferenceRow:
            values["value"] = json.loads(values["value"])
        yield values


def _entry(entry: Entry) -> dict[str, Any]:
    event = entry.event
    return {
        "at": entry.at,
        "action": event.action,
        "outcome": event.outcome,
        "actorId": event.actor_id,
        "ownerId": event.owner_id,
        "subjectId": event.subject_id,
        "projectId": event.project_id,
        "details": event.details,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain, indent=None)


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
