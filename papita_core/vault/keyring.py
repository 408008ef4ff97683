"""The ring of keys: master key → root key → one data key for each sealed value.

The ring opens with a master key or stays sealed; nothing is generated over data that another key
sealed. Rotation re-wraps data keys and never touches a ciphertext.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import SecretUnreadable, VaultSealed
from papita_core.settings import Settings
from papita_core.vault import crypto
from papita_core.vault.master_key import MasterKey, find_master_key
from papita_core.vault.models import Credential, KeySlot, PurposeKey, RootKey

log = logging.getLogger(__name__)

CANARY = "papita canary"
AUDIT = "audit"
FINGERPRINT = "fingerprint"
USER_TOKEN = "user-token"  # noqa: S105 - the name of a purpose


@dataclass(frozen=True, slots=True)
class SealedParts:
    """The three columns of a sealed value."""

    blob: bytes
    dek_wrapped: bytes
    kek_kid: str


@dataclass(frozen=True, slots=True)
class RingStatus:
    """What `keys status` shows. `wanted` names the master keys that would open the ring."""

    sealed: bool
    master_kid: str | None
    wanted: tuple[str, ...]
    roots: tuple[tuple[str, str], ...]


class KeyRing:
    """Seals and opens values. Raises `VaultSealed` on every use while it is sealed."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock
        self._roots: dict[str, bytes] = {}
        self._active: str | None = None
        self._purposes: dict[str, tuple[str, bytes]] = {}
        self._status = RingStatus(True, None, (), ())

    @property
    def sealed(self) -> bool:
        return self._active is None

    @property
    def status(self) -> RingStatus:
        return self._status

    def unseal(self, settings: Settings) -> None:
        """Opens the ring with the master key of `settings`, and makes it on the first start."""
        with self._database.read() as session:
            untouched = _untouched(session)
        master = find_master_key(settings, generate=untouched)
        with self._database.write() as session:
            self._database.one_at_a_time(session)  # two first starts at once make one ring
            if master is not None and _untouched(session):
                self._create(session, master)
            self._load(session, master)
        if self.sealed:
            log.error(
                "the vault is sealed: start with the master key %s", " or ".join(self.status.wanted)
            )

    # --- sealing ---

    def seal(self, kind: str, value: Any, context: Sequence[bytes]) -> SealedParts:
        """Seals a JSON value under a data key of its own, bound to `context`."""
        kid = self._require()
        data_key, data_key_id = crypto.new_key(), crypto.new_key_id()
        return SealedParts(
            blob=crypto.seal(data_key, data_key_id, crypto.encode(kind, value), context),
            dek_wrapped=crypto.seal(
                self._roots[kid],
                bytes.fromhex(kid),
                data_key,
                (b"data-key", data_key_id, *context),
            ),
            kek_kid=kid,
        )

    def open(self, kind: str, parts: SealedParts, context: Sequence[bytes]) -> Any:
        """The value of `seal`. Raises `SecretUnreadable` where anything does not fit."""
        self._require()
        root = self._roots.get(parts.kek_kid)
        if root is None:
            raise SecretUnreadable
        try:
            data_key_id = crypto.sealed_key_id(parts.blob)
            data_key = crypto.open_sealed(
                root,
                bytes.fromhex(parts.kek_kid),
                parts.dek_wrapped,
                (b"data-key", data_key_id, *context),
            )
            plaintext = crypto.open_sealed(data_key, data_key_id, parts.blob, context)
            return crypto.decode(kind, plaintext)
        except (crypto.EnvelopeError, ValueError):
            raise SecretUnreadable from None

    def purpose_key(self, purpose: str) -> tuple[str, bytes]:
        """The active key of a purpose: its id and its 32 bytes."""
        self._require()
        return self._purposes[purpose]

    def purpose_key_by_id(self, session: Session, kid: str) -> bytes:
        """A key of any state, for checking what an earlier key made."""
        for known, key in self._purposes.values():
            if known == kid:
                return key
        row = session.get(PurposeKey, kid)
        if row is None:
            raise SecretUnreadable
        return self._open_purpose(row)

    # --- the ring itself ---

    def _require(self) -> str:
        if self._active is None:
            raise VaultSealed
        return self._active

    def _create(self, session: Session, master: MasterKey) -> None:
        now = self._clock()
        root, root_id = crypto.new_key(), crypto.new_key_id()
        kid = root_id.hex()
        session.add(
            RootKey(
                kid=kid,
                state="active",
                canary=crypto.seal(
                    root, root_id, crypto.encode("canary", CANARY), (b"canary", root_id)
                ),
                created_at=now,
            )
        )
        session.flush()
        session.add(
            KeySlot(
                root_kid=kid,
                master_kid=master.key_id.hex(),
                wrapped=master.wrap(root, (root_id,)),
                created_at=now,
            )
        )
        self._roots, self._active = {kid: root}, kid
        for purpose in (AUDIT, FINGERPRINT):
            self._add_purpose(session, purpose, "active", crypto.new_key(), None)
        for state in ("active", "next"):
            signing_key = Ed25519PrivateKey.generate()
            self._add_purpose(
                session,
                USER_TOKEN,
                state,
                signing_key.private_bytes_raw(),
                signing_key.public_key()
                .public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
                .hex(),
            )
        session.flush()

    def _add_purpose(
        self, session: Session, purpose: str, state: str, key: bytes, public: str | None
    ) -> None:
        kid = crypto.new_key_id().hex()
        parts = self.seal("purpose-key", key.hex(), _purpose_context(purpose, kid))
        session.add(
            PurposeKey(
                kid=kid,
                purpose=purpose,
                state=state,
                public=public,
                created_at=self._clock(),
                blob=parts.blob,
                dek_wrapped=parts.dek_wrapped,
                kek_kid=parts.kek_kid,
            )
        )

    def _load(self, session: Session, master: MasterKey | None) -> None:
        roots = session.scalars(select(RootKey)).all()
        slots = session.scalars(select(KeySlot)).all()
        master_kid = master.key_id.hex() if master else None
        self._roots, self._active, self._purposes = {}, None, {}
        opened: dict[str, bytes] = {}
        for slot in slots:
            if master is None or slot.master_kid != master_kid:
                continue
            root_id = bytes.fromhex(slot.root_kid)
            try:
                opened[slot.root_kid] = master.unwrap(slot.wrapped, (root_id,))
            except crypto.EnvelopeError:
                log.exception("a root key slot cannot be opened: %s", slot.root_kid)
        active = next((root.kid for root in roots if root.state == "active"), None)
        if active in opened and all(_canary_sings(root, opened) for root in roots):
            self._roots, self._active = opened, active
            try:
                self._load_purposes(session)
            except (SecretUnreadable, LookupError):
                log.exception("a key of the ring is damaged or gone")
                self._roots, self._active, self._purposes = {}, None, {}
        self._status = RingStatus(
            sealed=self.sealed,
            master_kid=master_kid,
            wanted=tuple(sorted({slot.master_kid for slot in slots})),
            roots=tuple((root.kid, root.state) for root in roots),
        )

    def _load_purposes(self, session: Session) -> None:
        for row in session.scalars(select(PurposeKey).where(PurposeKey.state == "active")):
            self._purposes[row.purpose] = (row.kid, self._open_purpose(row))
        missing = {AUDIT, FINGERPRINT, USER_TOKEN} - self._purposes.keys()
        if missing:
            raise LookupError(*sorted(missing))

    def _open_purpose(self, row: PurposeKey) -> bytes:
        parts = SealedParts(row.blob, row.dek_wrapped, row.kek_kid)
        key: str = self.open("purpose-key", parts, _purpose_context(row.purpose, row.kid))
        return bytes.fromhex(key)


def _untouched(session: Session) -> bool:
    """Whether there is no key ring and nothing that a lost ring could have sealed."""
    return (
        session.scalar(select(func.count()).select_from(RootKey)) == 0
        and session.scalar(select(func.count()).select_from(Credential)) == 0
    )


def _canary_sings(root: RootKey, opened: dict[str, bytes]) -> bool:
    key = opened.get(root.kid)
    if key is None:
        return False
    root_id = bytes.fromhex(root.kid)
    try:
        plaintext = crypto.open_sealed(key, root_id, root.canary, (b"canary", root_id))
        return bool(crypto.decode("canary", plaintext) == CANARY)
    except crypto.EnvelopeError:
        log.exception("the canary of root key %s cannot be opened", root.kid)
        return False


def _purpose_context(purpose: str, kid: str) -> tuple[bytes, ...]:
    return (b"purpose-key", purpose.encode(), kid.encode())
