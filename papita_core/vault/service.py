"""Credentials: kept sealed, listed without their secret, changed under an ETag, tested, deleted.

Every call names its actor; what is not there and what is somebody else's are the same
`CredentialNotFound`. Nothing here gives a secret back: lending does that, to projects alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.orm import Session

from papita_core import outbound
from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.credential_types import CREDENTIAL_TYPES, CredentialType
from papita_core.db import Database, new_id
from papita_core.errors import (
    CredentialNotFound,
    IdempotencyMismatch,
    InvalidInput,
    PreconditionFailed,
    SecretRequired,
    SecretUnreadable,
)
from papita_core.projects.catalogue import PROJECTS
from papita_core.settings import Settings, origin_of
from papita_core.vault.keyring import FINGERPRINT, KeyRing, SealedParts
from papita_core.vault.models import Credential, CredentialSecret, IdempotentRequest

KIND = "credential"
ID = re.compile(r"[0-9a-f-]{36}")
MAX_LIST = 200
MAX_YEAR = 9998  # one less than there are, so that a change of zone does not overflow
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CredentialInfo:
    """A credential without its secret. `status`: untested, expired or what the last test said."""

    id: str
    label: str
    credential_type: str
    project_id: str | None
    hint: str
    base_url: str
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None
    checked_at: datetime | None
    status: str
    etag: str


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What a user types. `secret` maps the type's field names to values."""

    credential_type: str
    secret: Mapping[str, str] = field(repr=False)
    label: str | None = None
    project_id: str | None = None
    base_url: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReplaceCredential:
    """The new state of a credential; `secret=None` keeps the one that is there."""

    label: str | None = None
    project_id: str | None = None
    base_url: str | None = None
    expires_at: datetime | None = None
    secret: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TestResult:
    """What came of asking: ok, rejected, rate_limited, unreachable, refused or error."""

    __test__ = False

    status: str
    checked_at: datetime
    detail: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: list[T]
    next_cursor: str | None


class CredentialService:
    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        audit: AuditLog,
        settings: Settings,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._ring = ring
        self._audit = audit
        self._allowlist = frozenset(settings.provider_allowlist)
        self._clock = clock

    def list(
        self, actor: Actor, *, cursor: str | None = None, limit: int = 50
    ) -> Page[CredentialInfo]:
        """The actor's credentials, oldest first. `limit` is 1 to 200; the cursor is opaque."""
        actor.require("credentials:read")
        if not 1 <= limit <= MAX_LIST:
            raise InvalidInput({"limit": f"A page holds 1 to {MAX_LIST} credentials."})
        query = (
            select(Credential)
            .where(Credential.owner_id == actor.user_id)
            .order_by(Credential.created_at, Credential.id)
            .limit(limit + 1)
        )
        with self._database.read() as session:
            if cursor is not None:
                last = self._mine(session, actor, cursor, cursor=True)
                query = query.where(
                    tuple_(Credential.created_at, Credential.id) > (last.created_at, last.id)
                )
            rows = session.scalars(query).all()
        more = len(rows) > limit
        items = [self._info(row) for row in rows[:limit]]
        return Page(items, items[-1].id if more else None)

    def get(self, actor: Actor, credential_id: str) -> CredentialInfo:
        actor.require("credentials:read")
        with self._database.read() as session:
            return self._info(self._mine(session, actor, credential_id))

    def create(
        self, actor: Actor, new: NewCredential, *, idempotency_key: str | None = None
    ) -> CredentialInfo:
        """Stores a credential. With `idempotency_key`, a repetition gives the first one back.

        Raises `InvalidInput`, `IdempotencyMismatch` and `VaultSealed`.
        """
        actor.require("credentials:write")
        kind = CREDENTIAL_TYPES.get(new.credential_type)
        errors: dict[str, str] = {}
        if kind is None:
            known = ", ".join(CREDENTIAL_TYPES)
            raise InvalidInput({"credentialType": f"There is no such type. There are: {known}."})
        base_url = self._base_url(new.base_url or kind.default_base_url, errors)
        secret = _checked_secret(kind, new.secret, errors)
        label = _checked_label(new.label, kind, errors)
        _check_project(new.project_id, kind, errors)
        now = self._clock()
        expires_at = _checked_expiry(new.expires_at, now, errors)
        if errors:
            raise InvalidInput(errors)
        row = Credential(
            id=new_id(),
            owner_id=actor.user_id,
            credential_type=kind.id,
            project_id=new.project_id,
            label=label,
            hint=_hint(secret),
            base_url=base_url,
            origin=origin_of(base_url),
            version=1,
            revision=1,
            status="untested",
            checked_at=None,
            expires_at=expires_at,
            created_at=now,
            updated_at=now,
            last_used_at=None,
        )
        with self._database.write() as session:
            if idempotency_key is not None:
                earlier = self._replayed(session, actor, idempotency_key, new, row.id)
                if earlier is not None:
                    return self._info(self._mine(session, actor, earlier))
            session.add(row)
            session.flush()
            self._seal(session, row, secret)
            self._record(session, actor, row, "credential.created")
            return self._info(row)

    def replace(
        self, actor: Actor, credential_id: str, new: ReplaceCredential, *, etag: str
    ) -> CredentialInfo:
        """Replaces what is there, if `etag` still names it.

        Raises `PreconditionFailed`, `InvalidInput`, `SecretRequired` (a new origin needs the
        secret again, so that nobody can send a key elsewhere) and `VaultSealed`.
        """
        actor.require("credentials:write")
        with self._database.write() as session:
            row = self._mine(session, actor, credential_id, change=True)
            self._check_etag(row, etag)
            kind = CREDENTIAL_TYPES[row.credential_type]
            errors: dict[str, str] = {}
            base_url = self._base_url(new.base_url or kind.default_base_url, errors)
            label = _checked_label(new.label, kind, errors)
            secret = None
            if new.secret is not None:
                secret = _checked_secret(kind, new.secret, errors)
            _check_project(new.project_id, kind, errors)
            expires_at = row.expires_at
            if new.expires_at != expires_at:
                expires_at = _checked_expiry(new.expires_at, self._clock(), errors)
            if errors:
                raise InvalidInput(errors)
            if base_url != row.base_url and secret is None:
                raise SecretRequired(
                    {"credentials": "Enter the key again: a new base URL needs it."}
                )
            row.label, row.project_id, row.base_url = label, new.project_id, base_url
            row.origin, row.expires_at = origin_of(base_url), expires_at
            row.updated_at = self._clock()
            row.revision += 1
            if secret is not None:
                row.version += 1
                row.hint, row.status, row.checked_at = _hint(secret), "untested", None
                session.execute(
                    delete(CredentialSecret).where(CredentialSecret.credential_id == row.id)
                )
                self._seal(session, row, secret)
            self._record(session, actor, row, "credential.replaced", secret=secret is not None)
            return self._info(row)

    def delete(self, actor: Actor, credential_id: str, *, etag: str) -> None:
        """Deletes a credential and the data key of its secret."""
        actor.require("credentials:write")
        with self._database.write() as session:
            row = self._mine(session, actor, credential_id, change=True)
            self._check_etag(row, etag)
            session.execute(
                delete(CredentialSecret).where(CredentialSecret.credential_id == row.id)
            )
            session.execute(delete(Credential).where(Credential.id == row.id))
            self._record(session, actor, row, "credential.deleted")

    def test(self, actor: Actor, credential_id: str) -> TestResult:
        """Asks the provider whether the key works, and remembers what it said."""
        actor.require("credentials:write")
        with self._database.write() as session:
            row = self._mine(session, actor, credential_id)
            self._record(session, actor, row, "credential.tested")
            secret = self.unsealed(session, row)
        kind = CREDENTIAL_TYPES[row.credential_type]
        status, detail = self._probe(kind, row.base_url, secret)
        result = TestResult(status, self._clock(), detail)
        with self._database.write() as session:
            session.execute(
                update(Credential)
                .where(Credential.id == row.id, Credential.version == row.version)
                .values(status=result.status, checked_at=result.checked_at)
            )
        return result

    def unsealed(self, session: Session, row: Credential) -> dict[str, str]:
        """The secret of a row. The caller has written the audit row into the same transaction."""
        sealed = session.get(CredentialSecret, (row.id, row.version))
        if sealed is None:
            raise SecretUnreadable
        parts = SealedParts(sealed.blob, sealed.dek_wrapped, sealed.kek_kid)
        secret: dict[str, str] = self._ring.open(KIND, parts, secret_context(row))
        return secret

    # --- pieces ---

    def _mine(
        self,
        session: Session,
        actor: Actor,
        credential_id: str,
        *,
        cursor: bool = False,
        change: bool = False,
    ) -> Credential:
        query = select(Credential).where(
            Credential.id == credential_id, Credential.owner_id == actor.user_id
        )
        if change:  # whoever comes second sees what the first one made, and the new ETag
            query = query.with_for_update()
        row = session.scalar(query) if ID.fullmatch(credential_id) else None
        if row is None:
            if cursor:
                raise InvalidInput({"cursor": "This cursor is not valid any more. Begin again."})
            raise CredentialNotFound
        return row

    def _check_etag(self, row: Credential, etag: str) -> None:
        if etag != "*" and not hmac.compare_digest(etag.encode(), _etag(row).encode()):
            raise PreconditionFailed

    def _seal(self, session: Session, row: Credential, secret: Mapping[str, str]) -> None:
        parts = self._ring.seal(KIND, dict(secret), secret_context(row))
        session.add(
            CredentialSecret(
                credential_id=row.id,
                version=row.version,
                created_at=self._clock(),
                blob=parts.blob,
                dek_wrapped=parts.dek_wrapped,
                kek_kid=parts.kek_kid,
            )
        )
        session.flush()

    def _record(
        self, session: Session, actor: Actor, row: Credential, action: str, **details: Any
    ) -> None:
        self._audit.append(
            session,
            Event(
                action,
                actor.user_id,
                row.owner_id,
                row.id,
                row.project_id,
                details={"type": row.credential_type, "version": row.version, **details},
            ),
        )

    def _replayed(
        self, session: Session, actor: Actor, key: str, new: NewCredential, subject_id: str
    ) -> str | None:
        if not 1 <= len(key) <= 255:
            raise InvalidInput({"Idempotency-Key": "The key has 1 to 255 characters."})
        fingerprint = self._fingerprint(new)
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        # Of several at once, one inserts; the others wait for its commit and read what it wrote.
        added = session.scalar(
            self._database.insert_new(IdempotentRequest)
            .values(
                user_id=actor.user_id,
                key_digest=digest,
                fingerprint=fingerprint,
                subject_id=subject_id,
                created_at=self._clock(),
            )
            .returning(IdempotentRequest.key_digest)
        )
        if added is not None:
            return None
        row = session.get_one(IdempotentRequest, (actor.user_id, digest))
        if not hmac.compare_digest(row.fingerprint, fingerprint):
            raise IdempotencyMismatch
        return row.subject_id

    def _fingerprint(self, new: NewCredential) -> str:
        # Keyed: the body holds a secret, and a plain hash of it could be guessed at leisure.
        _, key = self._ring.purpose_key(FINGERPRINT)
        body = json.dumps(
            [
                new.credential_type,
                sorted(new.secret.items()),
                new.label,
                new.project_id,
                new.base_url,
                new.expires_at.isoformat() if new.expires_at else None,
            ]
        )
        return hmac.new(key, body.encode(), hashlib.sha256).hexdigest()

    def _base_url(self, url: str, errors: dict[str, str]) -> str:
        url = url.strip().rstrip("/")
        try:
            origin = origin_of(url)
        except ValueError as error:
            errors["baseUrl"] = f"The base URL cannot be used: {error}."
            return url
        parts = urlsplit(url)
        if len(url) > 2048 or parts.query or parts.fragment:
            errors["baseUrl"] = (
                "The base URL has no question mark, no # and at most 2048 characters."
            )
        elif parts.scheme == "http" and origin not in self._allowlist:
            errors["baseUrl"] = (
                "The base URL must begin with https://, so that the key is not sent in clear."
                " An administrator can allow this address with PAPITA_PROVIDER_ALLOWLIST."
            )
        return origin + parts.path

    def _probe(
        self, kind: CredentialType, base_url: str, secret: Mapping[str, str]
    ) -> tuple[str, str]:
        try:
            answer = outbound.get(
                f"{base_url}/{kind.probe_path}",
                {"Authorization": f"Bearer {secret['api_key']}"},
                allowlist=self._allowlist,
            )
        except outbound.AddressRefused as error:
            return "refused", str(error)
        except outbound.Unreachable as error:
            return "unreachable", str(error)
        if answer.status == 200:
            return "ok", "The provider accepts the key."
        if answer.status in (401, 403):
            return "rejected", "The provider rejects the key. Replace it with one that is valid."
        if answer.status == 429:
            return "rate_limited", "The provider asks to wait. The key may well be right."
        if answer.status == 404:
            return "error", "There is no such API at the base URL. Check the address."
        return "error", f"The provider answers with status {answer.status}. Try again later."

    def _info(self, row: Credential) -> CredentialInfo:
        expired = row.expires_at is not None and row.expires_at <= self._clock()
        return CredentialInfo(
            id=row.id,
            label=row.label,
            credential_type=row.credential_type,
            project_id=row.project_id,
            hint=row.hint,
            base_url=row.base_url,
            expires_at=row.expires_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
            last_used_at=row.last_used_at,
            checked_at=row.checked_at,
            status="expired" if expired else row.status,
            etag=_etag(row),
        )


def secret_context(row: Credential) -> tuple[bytes, ...]:
    """What a secret is bound to: it opens in this row, for this owner, type, origin and version."""
    return bound_to(
        row.id, row.owner_id, row.credential_type, row.base_url, row.origin, row.version
    )


def bound_to(
    credential_id: str,
    owner_id: str,
    credential_type: str,
    base_url: str,
    origin: str,
    version: int,
) -> tuple[bytes, ...]:
    """Raises `SecretUnreadable` where the base URL leads away from the origin: it is the address
    to which the key will be sent, so whoever can write the row must not turn it elsewhere.
    """
    try:
        led_to = origin_of(base_url)
    except ValueError:
        raise SecretUnreadable from None
    if led_to != origin:
        raise SecretUnreadable
    return (
        KIND.encode(),
        credential_id.encode(),
        owner_id.encode(),
        credential_type.encode(),
        origin.encode(),
        version.to_bytes(8, "big"),
    )


def _etag(row: Credential) -> str:
    return f'"{row.id[:8]}-{row.revision}"'


def _hint(secret: Mapping[str, str]) -> str:
    value = next(iter(secret.values()))
    return f"••••{value[-4:]}" if len(value) >= 16 else "••••"


def _checked_secret(
    kind: CredentialType, secret: Mapping[str, str], errors: dict[str, str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    if any(kind.field(name) is None for name in secret):
        names = ", ".join(item.name for item in kind.fields)
        errors["credentials"] = f"This type takes these fields only: {names}."
    for item in kind.fields:
        value = secret.get(item.name, "").strip()
        if not value:
            if item.required:
                errors[item.name] = f"Enter the {item.label}."
        elif len(value) > item.max_length:
            errors[item.name] = f"The {item.label} may have at most {item.max_length} characters."
        elif not value.isascii() or not value.isprintable() or " " in value:
            errors[item.name] = (
                f"The {item.label} has spaces or signs that no key has. Copy it once more."
            )
        else:
            found[item.name] = value
    return found


def _checked_label(label: str | None, kind: CredentialType, errors: dict[str, str]) -> str:
    label = (label or "").strip() or kind.title
    if len(label) > 200 or not label.isprintable():
        errors["label"] = "The label is one line of at most 200 characters."
    return label


def _check_project(project_id: str | None, kind: CredentialType, errors: dict[str, str]) -> None:
    if project_id is None:
        return
    project = next((item for item in PROJECTS if item.id == project_id), None)
    if project is None or kind.id not in project.credential_types:
        errors["projectId"] = "There is no such project that uses this type of credential."


def _checked_expiry(
    expires_at: datetime | None, now: datetime, errors: dict[str, str]
) -> datetime | None:
    """The time in UTC, as it will be read back."""
    if expires_at is None:
        return None
    if expires_at.tzinfo is None:
        errors["expiresAt"] = "The time needs a zone, for example 2030-01-31T00:00:00Z."
    elif expires_at <= now:
        errors["expiresAt"] = "The time has passed already."
    elif expires_at.year > MAX_YEAR:
        errors["expiresAt"] = f"The time may be in the year {MAX_YEAR} at most."
    else:
        return expires_at.astimezone(UTC)
    return None
