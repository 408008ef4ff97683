"""Credentials: kept sealed, listed without their secret, changed under an ETag, tested, deleted.

Every call names its actor; what is not there and what is somebody else's are the same
`CredentialNotFound`. Nothing here gives a secret back: lending does that, to projects alone.

The values are in `records`, the checks of input in `checks`, sharing in `sharing`, the record of
use in `usage`; `CredentialService` is all of it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.orm import Session

from papita_core.actors import CAPABILITIES, Actor
from papita_core.audit.service import AuditLog
from papita_core.clock import Clock, utc_now
from papita_core.credential_types import CREDENTIAL_TYPES, CredentialType
from papita_core.db import Database, NameTaken, new_id
from papita_core.errors import (
    Conflict,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    SecretRequired,
    SecretUnreadable,
    TestFailed,
)
from papita_core.settings import Settings
from papita_core.usage.budgets import Budget, budget_of, in_words
from papita_core.usage.spending import recount
from papita_core.users.models import UserRow
from papita_core.users.service import normalise_username
from papita_core.vault.binding import KIND, bound_to, secret_context
from papita_core.vault.checks import Checked, checked, hint, known_type
from papita_core.vault.keyring import FINGERPRINT, KeyRing, SealedParts
from papita_core.vault.models import Credential, CredentialSecret, IdempotentRequest
from papita_core.vault.own import checked_limit
from papita_core.vault.probing import probe
from papita_core.vault.records import (
    AdminCredential,
    CredentialInfo,
    NewCredential,
    Page,
    ReplaceCredential,
    SharedCredential,
    Shares,
    TestResult,
    Usage,
    Use,
)
from papita_core.vault.sharing import Sharing
from papita_core.vault.usage import UsageRecord

__all__ = [
    "KIND",
    "AdminCredential",
    "CredentialInfo",
    "CredentialService",
    "NewCredential",
    "Page",
    "ReplaceCredential",
    "SharedCredential",
    "Shares",
    "TestResult",
    "Usage",
    "Use",
    "bound_to",
    "secret_context",
]
MAX_AT_ONCE = 200


class HasSecret(Protocol):
    """What can be looked for among the stored secrets, a candidate of an import for example."""

    @property
    def credential_type(self) -> str: ...
    @property
    def secret(self) -> Mapping[str, str]: ...
    @property
    def base_url(self) -> str | None: ...


class CredentialService(Sharing, UsageRecord):
    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        audit: AuditLog,
        settings: Settings,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(database, audit, clock)
        self._ring = ring
        self._allowlist = frozenset(settings.provider_allowlist)

    # --- reading ---

    def list(
        self, actor: Actor, *, cursor: str | None = None, limit: int = 50
    ) -> Page[CredentialInfo]:
        """The actor's credentials, oldest first. `limit` is 1 to 200; the cursor is opaque."""
        actor.require("credentials:read")
        checked_limit(limit, "credentials")
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
            items = self._infos(session, rows[:limit])
        return Page(items, items[-1].id if len(rows) > limit else None)

    def get(self, actor: Actor, credential_id: str) -> CredentialInfo:
        actor.require("credentials:read")
        with self._database.read() as session:
            return self._info(session, self._mine(session, actor, credential_id))

    def expiring(self, actor: Actor, within: timedelta) -> Sequence[CredentialInfo]:
        """Own credentials that expire within this time or have expired, the soonest first."""
        actor.require("credentials:read")
        query = (
            select(Credential)
            .where(
                Credential.owner_id == actor.user_id,
                Credential.expires_at <= self._clock() + within,
            )
            .order_by(Credential.expires_at, Credential.id)
        )
        with self._database.read() as session:
            return self._infos(session, session.scalars(query).all())

    # --- storing ---

    def create(
        self, actor: Actor, new: NewCredential, *, idempotency_key: str | None = None
    ) -> CredentialInfo:
        """Stores a credential. With `idempotency_key`, a repetition gives the first one back.

        Raises `InvalidInput`, `IdempotencyMismatch`, `IdempotencyInFlight` (the first request is
        still being served) and `VaultSealed`. Keys are remembered for 24 hours.
        """
        actor.require("credentials:write")
        kind = known_type(new.credential_type)
        found = checked(kind, new, self._clock(), self._allowlist)
        if idempotency_key is None:
            with self._database.write() as session:
                return self._info(session, self._store(session, actor, kind, found))
        digest = _digest(idempotency_key)
        try:
            with self._database.write_alone(f"create {actor.user_id} {digest}") as session:
                earlier = session.get(IdempotentRequest, (actor.user_id, digest))
                if earlier is not None:
                    if not hmac.compare_digest(earlier.fingerprint, self._body_digest(new)):
                        raise IdempotencyMismatch
                    return self._info(session, self._mine(session, actor, earlier.subject_id))
                row = self._store(session, actor, kind, found)
                session.add(
                    IdempotentRequest(
                        user_id=actor.user_id,
                        key_digest=digest,
                        fingerprint=self._body_digest(new),
                        subject_id=row.id,
                        created_at=self._clock(),
                    )
                )
                return self._info(session, row)
        except NameTaken:
            raise IdempotencyInFlight from None

    def check(self, actor: Actor, new: NewCredential) -> None:
        """Raises `InvalidInput` where `create` would; stores nothing."""
        actor.require("credentials:write")
        checked(known_type(new.credential_type), new, self._clock(), self._allowlist)

    def create_many(
        self,
        actor: Actor,
        items: Sequence[NewCredential],
        *,
        tested: Sequence[TestResult | None] = (),
        username: str | None = None,
    ) -> Sequence[CredentialInfo]:
        """Stores all of them or none. `tested` are results of `test_secret`, in the same order.

        For `username`, where the actor manages users. Raises `InvalidInput`, whose fields are
        `<place>.<field>` with the place counted from 0, `NotFound` and `VaultSealed`.
        """
        actor.require("credentials:write")
        if len(items) > MAX_AT_ONCE:
            raise InvalidInput({"credentials": f"Store at most {MAX_AT_ONCE} at once."})
        errors: dict[str, str] = {}
        ready: list[tuple[CredentialType, Checked]] = []
        for place, new in enumerate(items):
            try:
                kind = known_type(new.credential_type)
                ready.append((kind, checked(kind, new, self._clock(), self._allowlist)))
            except InvalidInput as error:
                errors |= {f"{place}.{name}": words for name, words in error.errors.items()}
        if errors:
            raise InvalidInput(errors)
        results = [*tested, *[None] * len(ready)]
        with self._database.write() as session:
            owner_id = self._owner(session, actor, username)
            rows = [
                self._store(session, actor, kind, found, owner_id=owner_id, result=result)
                for (kind, found), result in zip(ready, results, strict=False)
            ]
            return self._infos(session, rows)

    def known(
        self, actor: Actor, candidates: Iterable[HasSecret], *, username: str | None = None
    ) -> set[int]:
        """The places of those whose very secret the actor, or `username`, has stored already."""
        actor.require("credentials:write")
        with self._database.read() as session:
            owner_id = self._owner(session, actor, username)
            prints = [
                self._fingerprint(owner_id, item.credential_type, item.secret, item.base_url or "")
                for item in candidates
            ]
            stored = set(
                session.scalars(
                    select(Credential.fingerprint).where(
                        Credential.owner_id == owner_id, Credential.fingerprint.in_(prints)
                    )
                )
            )
        return {place for place, found in enumerate(prints) if found in stored}

    # --- changing ---

    def replace(
        self,
        actor: Actor,
        credential_id: str,
        new: ReplaceCredential,
        *,
        etag: str,
        test_first: bool = False,
    ) -> CredentialInfo:
        """Replaces what is there, if `etag` still names it.

        With `test_first`, the provider is asked before anything is written, and what does not pass
        changes nothing. Raises `PreconditionFailed`, `InvalidInput`, `SecretRequired` (a new base
        URL needs the secret again, so that nobody can send a key elsewhere), `TestFailed` and
        `VaultSealed`.
        """
        actor.require("credentials:write")
        result = None
        if test_first:
            result = self._test_candidate(actor, credential_id, new, etag)
        with self._database.write() as session:
            row = self._mine(session, actor, credential_id, change=True)
            self._check_etag(row, etag)
            kind, found = self._checked_change(row, new)
            row.label, row.project_id, row.base_url = found.label, found.project_id, found.base_url
            row.origin, row.expires_at = found.origin, found.expires_at
            self._set_budget(session, actor, row, found.budget)
            row.updated_at = self._clock()
            row.revision += 1
            if found.secret is not None:
                row.version += 1
                row.hint, row.status, row.checked_at = hint(kind, found.secret), "untested", None
                row.fingerprint = self._fingerprint(
                    row.owner_id, kind.id, found.secret, found.base_url
                )
                session.execute(
                    delete(CredentialSecret).where(CredentialSecret.credential_id == row.id)
                )
                self._seal(session, row, found.secret)
            if result is not None:
                row.status, row.checked_at = result.status, result.checked_at
            self._record(
                session, actor, row, "credential.replaced", secret=found.secret is not None
            )
            return self._info(session, row)

    def set_disabled(
        self, actor: Actor, credential_id: str, disabled: bool, *, etag: str
    ) -> CredentialInfo:
        """The owner's switch: no project gets a disabled credential."""
        actor.require("credentials:write")
        with self._database.write() as session:
            row = self._mine(session, actor, credential_id, change=True)
            self._check_etag(row, etag)
            if disabled != (row.disabled_at is not None):
                row.disabled_at = self._clock() if disabled else None
                row.revision += 1
                action = "credential.disabled" if disabled else "credential.enabled"
                self._record(session, actor, row, action)
            return self._info(session, row)

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

    # --- testing ---

    def test(self, actor: Actor, credential_id: str) -> TestResult:
        """Asks the provider whether the key works, and remembers what it said."""
        actor.require("credentials:write")
        with self._database.write() as session:
            row = self._mine(session, actor, credential_id)
            secret = self._opened_for_test(session, actor, row)
        if secret is None:
            raise SecretUnreadable
        result = self._probe(CREDENTIAL_TYPES[row.credential_type], row.base_url, secret)
        if result.status == "untested":
            return result
        with self._database.write() as session:
            session.execute(
                update(Credential)
                .where(Credential.id == row.id, Credential.version == row.version)
                .values(status=result.status, checked_at=result.checked_at)
            )
        return result

    def test_secret(self, actor: Actor, new: NewCredential) -> TestResult:
        """Asks the provider about a secret that is not stored. Raises `InvalidInput`."""
        actor.require("credentials:write")
        kind = known_type(new.credential_type)
        found = checked(kind, new, self._clock(), self._allowlist)
        return self._probe(kind, found.base_url, found.secret or {})

    def unsealed(self, session: Session, row: Credential) -> dict[str, str]:
        """The secret of a row. The caller has written the audit row into the same transaction."""
        sealed = session.get(CredentialSecret, (row.id, row.version))
        if sealed is None:
            raise SecretUnreadable
        parts = SealedParts(sealed.blob, sealed.dek_wrapped, sealed.kek_kid)
        secret: dict[str, str] = self._ring.open(KIND, parts, secret_context(row), session)
        return secret

    # --- pieces ---

    def _checked_change(
        self, row: Credential, new: ReplaceCredential
    ) -> tuple[CredentialType, Checked]:
        kind = CREDENTIAL_TYPES[row.credential_type]
        found = checked(
            *(kind, new, self._clock(), self._allowlist),
            expires_before=row.expires_at,
            budget_before=budget_of(row),
        )
        if found.base_url != row.base_url and found.secret is None:
            raise SecretRequired({"credentials": "Enter the key again: a new base URL needs it."})
        return kind, found

    def _test_candidate(
        self, actor: Actor, credential_id: str, new: ReplaceCredential, etag: str
    ) -> TestResult | None:
        """None where nobody can be asked. Raises `TestFailed`."""
        with self._database.write() as session:
            row = self._mine(session, actor, credential_id)
            self._check_etag(row, etag)
            kind, found = self._checked_change(row, new)
            if kind.probe is None:
                return None
            secret = found.secret
            if secret is None:
                secret = self._opened_for_test(session, actor, row)
        if secret is None:
            raise SecretUnreadable
        result = self._probe(kind, found.base_url, secret)
        if result.status != "ok":
            raise TestFailed(result.status, result.detail)
        return result

    def _opened_for_test(
        self, session: Session, actor: Actor, row: Credential
    ) -> dict[str, str] | None:
        """None where it cannot be read, which is then on the record and shown."""
        self._record(session, actor, row, "credential.tested")
        try:
            return self.unsealed(session, row)
        except SecretUnreadable:
            row.status = "unreadable"
            self._record(session, actor, row, "credential.unreadable")
            return None

    def _probe(self, kind: CredentialType, base_url: str, secret: Mapping[str, str]) -> TestResult:
        return probe(kind, base_url, secret, allowlist=self._allowlist, clock=self._clock)

    def _store(
        self,
        session: Session,
        actor: Actor,
        kind: CredentialType,
        found: Checked,
        *,
        owner_id: str | None = None,
        result: TestResult | None = None,
    ) -> Credential:
        owner_id, secret = owner_id or actor.user_id, found.secret or {}
        now = self._clock()
        row = Credential(
            id=new_id(),
            owner_id=owner_id,
            credential_type=kind.id,
            project_id=found.project_id,
            label=found.label,
            hint=hint(kind, secret),
            base_url=found.base_url,
            origin=found.origin,
            version=1,
            revision=1,
            status="untested" if result is None else result.status,
            checked_at=None if result is None or result.status == "untested" else result.checked_at,
            expires_at=found.expires_at,
            created_at=now,
            updated_at=now,
            last_used_at=None,
            last_used_by=None,
            shared_with_all=False,
            fingerprint=self._fingerprint(owner_id, kind.id, secret, found.base_url),
        )
        session.add(row)
        session.flush()
        self._seal(session, row, secret)
        self._record(session, actor, row, "credential.created")
        self._set_budget(session, actor, row, found.budget)
        return row

    def _set_budget(
        self, session: Session, actor: Actor, row: Credential, budget: Budget | None
    ) -> None:
        """Changes it where it is another one; what was spent in its period already counts."""
        if budget == budget_of(row):
            return
        row.budget_nano = None if budget is None else budget.limit_nano
        row.budget_period = None if budget is None else budget.period
        row.budget_project_id = None if budget is None else budget.project_id
        recount(session, row, self._clock())
        limit = None if budget is None else in_words(budget.limit_nano)
        self._record(
            *(session, actor, row, "credential.budget"),
            limit=limit,
            period=row.budget_period,
            project=row.budget_project_id,
        )

    def _seal(self, session: Session, row: Credential, secret: Mapping[str, str]) -> None:
        parts = self._ring.seal(session, KIND, dict(secret), secret_context(row))
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

    def _owner(self, session: Session, actor: Actor, username: str | None) -> str:
        """The id of the actor, or of `username` for whoever manages users."""
        if username is None:
            return actor.user_id
        actor.require("users:manage")
        query = select(UserRow).where(UserRow.username == normalise_username(username))
        user = session.scalar(query)
        if user is None:
            raise NotFound("There is no user of this name.")
        if "credentials:write" not in CAPABILITIES.get(user.role, frozenset()):
            raise Conflict("This user is a guest, and guests keep no credentials of their own.")
        return user.id

    # Keyed: both are made of secrets, and a plain hash of one could be guessed at leisure.

    def _fingerprint(
        self, owner_id: str, type_id: str, secret: Mapping[str, str], base_url: str
    ) -> str:
        """Tells that a secret is stored already. Without a key, the address is what tells."""
        return self._keyed(
            ["secret", owner_id, type_id, sorted(secret.items()), "" if secret else base_url]
        )

    def _body_digest(self, new: NewCredential) -> str:
        return self._keyed(
            [
                new.credential_type,
                sorted(new.secret.items()),
                new.label,
                new.project_id,
                new.base_url,
                _written(new.expires_at),
                *([] if new.budget is None else astuple(new.budget)),
            ]
        )

    def _keyed(self, value: Collection[object]) -> str:
        _, key = self._ring.purpose_key(FINGERPRINT)
        return hmac.new(key, json.dumps(value).encode(), hashlib.sha256).hexdigest()


def _digest(idempotency_key: str) -> str:
    if not 1 <= len(idempotency_key) <= 255:
        raise InvalidInput({"Idempotency-Key": "The key has 1 to 255 characters."})
    return hashlib.sha256(idempotency_key.encode("utf-8", "surrogatepass")).hexdigest()


def _written(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
