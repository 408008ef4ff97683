"""The ring of keys: master key → root key → one data key for each sealed value.

The ring opens with a master key or stays sealed; nothing is generated over data that another key
sealed. Rotation re-wraps data keys and never touches a ciphertext. Another process may rotate at
any time: what is sealed is sealed under the root key that the writing transaction finds active, and
a root key that is not known yet is read from the database. A root key once opened stays in memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from papita_core.clock import Clock, utc_now
from papita_core.db import Database, table_of
from papita_core.errors import MasterKeyUnavailable, SecretUnreadable, VaultSealed
from papita_core.settings import Settings, SettingsError
from papita_core.vault import crypto
from papita_core.vault.master_key import MasterKey, master_keys
from papita_core.vault.models import Credential, KeySlot, PurposeKey, RootKey

log = logging.getLogger(__name__)

CANARY = "papita canary"
AUDIT = "audit"
FINGERPRINT = "fingerprint"
USER_TOKEN = "user-token"  # noqa: S105 - the name of a purpose

REFRESH = timedelta(seconds=60)
RETRY = timedelta(seconds=30)
ACTIVATION = 0x70617061  # any number that other programs do not use as advisory lock

_ROOT = table_of(RootKey)
_ACTIVE = select(_ROOT.c.kid).where(_ROOT.c.state == "active")
# On PostgreSQL whoever seals holds this lock together with others, and an activation holds it
# alone. Not a lock of the row: there, those who share it would overtake an activation for ever.
_SHARE = text(f"SELECT pg_advisory_xact_lock_shared({ACTIVATION})")
_ALONE = text(f"SELECT pg_advisory_xact_lock({ACTIVATION})")
_LIVE = select(_ROOT.c.kid, _ROOT.c.state, _ROOT.c.canary).where(_ROOT.c.state != "retired")
_SLOTS = select(table_of(KeySlot))
_PURPOSE = table_of(PurposeKey)
_PURPOSES = select(_PURPOSE)


@dataclass(frozen=True, slots=True)
class SealedParts:
    """The three columns of a sealed value."""

    blob: bytes
    dek_wrapped: bytes
    kek_kid: str


@dataclass(frozen=True, slots=True)
class RootStatus:
    """A root key: staged, active, retiring or retired; `slots` are master key ids."""

    kid: str
    state: str
    created_at: datetime
    retired_at: datetime | None
    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PurposeStatus:
    """A key with one use: next, active or retired; `since` is when it came into that state."""

    kid: str
    purpose: str
    state: str
    created_at: datetime
    retired_at: datetime | None
    since: datetime


@dataclass(frozen=True, slots=True)
class RingStatus:
    """What `keys status` shows. `wanted` names the master keys that would open the ring."""

    sealed: bool
    master_kid: str | None
    source: str | None
    wanted: tuple[str, ...]
    roots: tuple[RootStatus, ...]
    purposes: tuple[PurposeStatus, ...]


class KeyRing:
    """Seals and opens values. Raises `VaultSealed` on every use while it is sealed."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock
        self._settings: Settings | None = None
        self._find: Callable[[], Sequence[MasterKey]] = tuple
        self._found: MasterKey | None = None
        self._master: MasterKey | None = None
        # Replaced, never changed in place: readers take no lock.
        self._roots: dict[str, bytes] = {}
        self._purposes: dict[str, tuple[str, bytes]] = {}
        self._shut: frozenset[str] = frozenset()
        self._open = False
        self._loaded_at: datetime | None = None
        self._loading = threading.RLock()
        self._unavailable: datetime | None = None

    @property
    def sealed(self) -> bool:
        return not self._open

    @property
    def master(self) -> MasterKey:
        """The master key that opened the ring."""
        if self._master is None or not self._open:
            raise VaultSealed
        return self._master

    @property
    def status(self) -> RingStatus:
        """The ring as the database has it now."""
        with self._database.read() as session:
            roots = session.scalars(select(RootKey).order_by(RootKey.created_at)).all()
            slots = session.scalars(select(KeySlot)).all()
            purposes = session.scalars(
                select(PurposeKey).order_by(PurposeKey.purpose, PurposeKey.created_at)
            ).all()
        active = {root.kid for root in roots if root.state == "active"}
        found = self._master or self._found
        return RingStatus(
            sealed=self.sealed,
            master_kid=found.key_id.hex() if found else None,
            source=found.source if found else None,
            wanted=tuple(sorted({slot.master_kid for slot in slots if slot.root_kid in active})),
            roots=tuple(
                RootStatus(
                    root.kid,
                    root.state,
                    root.created_at,
                    root.retired_at,
                    tuple(sorted(slot.master_kid for slot in slots if slot.root_kid == root.kid)),
                )
                for root in roots
            ),
            purposes=tuple(
                PurposeStatus(
                    row.kid,
                    row.purpose,
                    row.state,
                    row.created_at,
                    row.retired_at,
                    _since(row, purposes),
                )
                for row in purposes
            ),
        )

    def unseal(self, settings: Settings) -> None:
        """Opens the ring with the master key of `settings`, and makes it on the first start.

        A service that keeps the master key and does not answer leaves the ring sealed, too.
        """
        self._settings = settings
        with self._database.read() as session:
            untouched = _untouched(session)
        masters = master_keys(settings, generate=untouched)
        self._find = lambda: master_keys(settings, generate=False)
        self._found = next(iter(masters), None)
        try:
            if untouched and masters:
                with self._database.write() as session:
                    # Two first starts at once make one ring.
                    self._database.one_at_a_time(session)
                    if _untouched(session):
                        self._create(session, masters[0])
            with self._loading, self._database.read() as session:
                self._load(session, masters)
        except MasterKeyUnavailable as error:
            self._unavailable = self._clock()
            log.error("the vault is sealed: %s", error)
            return
        self._unavailable = None
        if self.sealed:
            wanted = " or ".join(self.status.wanted)
            log.error("the vault is sealed: start with the master key %s", wanted)

    def try_again(self) -> None:
        """Opens a ring, in the background, that is sealed since its master key's service was away.

        Does nothing otherwise, and tries at most every half a minute.
        """
        now = self._clock()
        with self._loading:
            if self._unavailable is None or now - self._unavailable < RETRY:
                return
            self._unavailable = now
        threading.Thread(target=self._open_again, name="unseal", daemon=True).start()

    def _open_again(self) -> None:
        try:
            if self._settings is not None:
                self.unseal(self._settings)
        except Exception as error:  # noqa: BLE001 - the next try may go better
            log.error("the vault is still sealed: %s", error)

    # --- sealing ---

    def seal(
        self, session: Session, kind: str, value: Any, context: Sequence[bytes]
    ) -> SealedParts:
        """Seals a JSON value under a data key of its own, bound to `context`.

        `session` is the writing transaction that will hold what comes back.
        """
        kid = self.active_in(session)
        return _sealed(kid, self._roots[kid], kind, value, context)

    def open(
        self,
        kind: str,
        parts: SealedParts,
        context: Sequence[bytes],
        session: Session | None = None,
    ) -> Any:
        """The value of `seal`. Raises `SecretUnreadable` where anything does not fit."""
        root = self._root(parts.kek_kid, session)
        return _opened(root, kind, parts, context)

    def rewrap(
        self,
        kid: str,
        parts: SealedParts,
        context: Sequence[bytes],
        session: Session | None = None,
    ) -> SealedParts:
        """The same value, its data key wrapped by the root key `kid`, which `active_in` has given.

        The ciphertext is neither opened nor changed. Raises `SecretUnreadable`.
        """
        data_key, place = _data_key(self._root(parts.kek_kid, session), parts, context)
        wrapped = crypto.seal(self._roots[kid], bytes.fromhex(kid), data_key, place)
        return SealedParts(parts.blob, wrapped, kid)

    def active_in(self, session: Session) -> str:
        """The id of the root key that is active, and stays so, for this writing transaction."""
        self._require()
        if not self._database.is_sqlite:
            session.execute(_SHARE)
        kid: str | None = session.scalar(_ACTIVE)
        if kid is None:
            raise VaultSealed
        if kid not in self._roots:
            self._learn(kid, session)
        if kid not in self._roots:
            log.error("the active root key %s does not open with the master key in force", kid)
            raise VaultSealed
        return kid

    def wait_for_sealers(self, session: Session) -> None:
        """Before an activation: from here to its commit nobody seals. SQLite has one writer."""
        if not self._database.is_sqlite:
            session.execute(_ALONE)

    def knows(self, kid: str) -> bool:
        """Whether a root key is open here."""
        return kid in self._roots

    # --- keys with one use ---

    def purpose_key(self, purpose: str) -> tuple[str, bytes]:
        """The active key of a purpose: its id and its 32 bytes."""
        self._require()
        return self._purposes[purpose]

    def purpose_key_by_id(self, session: Session, kid: str) -> bytes:
        """A key of any state, for checking what an earlier key made."""
        for known, key in self._purposes.values():
            if known == kid:
                return key
        row = session.execute(_PURPOSES.where(_PURPOSE.c.kid == kid)).one_or_none()
        if row is None:
            raise SecretUnreadable
        return _opened_purpose(self._root(row.kek_kid, session), row)

    def refresh(self) -> None:
        """Takes up what another process has rotated; asks the database once a minute at most."""
        now = self._clock()
        if self._open and (self._loaded_at is None or now - self._loaded_at >= REFRESH):
            self._loaded_at = now
            self.reload()

    def new_purpose_key(self, session: Session, purpose: str, state: str = "active") -> str:
        """Adds a fresh key and returns its id."""
        kid = self.active_in(session)
        return _add_purpose(session, kid, self._roots[kid], purpose, state, self._clock())

    # --- root keys ---

    def new_root(self) -> tuple[RootKey, KeySlot]:
        """A fresh root key, staged, and its slot for the master key; both are still to be added."""
        return _new_root(self.master, "staged", self._clock())[:2]

    def slot_for(self, kid: str, master: MasterKey) -> KeySlot:
        """A slot of another master key for a root key that is open here."""
        return KeySlot(
            root_kid=kid,
            master_kid=master.key_id.hex(),
            wrapped=master.wrap(self._roots[kid], (bytes.fromhex(kid),)),
            created_at=self._clock(),
        )

    def fits(self, slot: KeySlot, master: MasterKey) -> bool:
        """Whether a slot, as it was read back, gives the root key that is open here."""
        try:
            key = master.unwrap(slot.wrapped, (bytes.fromhex(slot.root_kid),))
        except crypto.EnvelopeError:
            return False
        return key == self._roots.get(slot.root_kid)

    def use_master(self, master: MasterKey) -> None:
        """From now on, root keys are opened and wrapped with this one."""
        self._master = master

    def reload(self, session: Session | None = None) -> None:
        """Reads the ring again. What was open stays open.

        Raises `MasterKeyUnavailable` where the service that keeps the master key does not answer.
        """
        with self._loading:
            place = self._database.read() if session is None else nullcontext(session)
            with place as reading:
                self._load(reading, () if self._master is None else (self._master,))
                if self._shut or not self._open:  # the master key may have been rotated, too
                    try:
                        self._load(reading, self._find())
                    except SettingsError as error:
                        log.error("the master key cannot be read again: %s", error)

    # --- the ring itself ---

    def _require(self) -> None:
        if not self._open:
            raise VaultSealed

    def _root(self, kid: str, session: Session | None) -> bytes:
        self._require()
        if kid not in self._roots:
            self._learn(kid, session)
        root = self._roots.get(kid)
        if root is not None:
            return root
        if kid in self._shut:  # nothing is wrong with the row: another master key opens it
            raise VaultSealed
        raise SecretUnreadable

    def _learn(self, kid: str, session: Session | None) -> None:
        with self._loading:
            if kid not in self._roots:
                self.reload(session)

    def _create(self, session: Session, master: MasterKey) -> None:
        now = self._clock()
        root, slot, key = _new_root(master, "active", now)
        session.add(root)
        session.flush()
        session.add(slot)
        for purpose in (AUDIT, FINGERPRINT, USER_TOKEN):
            _add_purpose(session, root.kid, key, purpose, "active", now)
        _add_purpose(session, root.kid, key, USER_TOKEN, "next", now)
        session.flush()

    def _load(self, session: Session, masters: Sequence[MasterKey]) -> None:
        # Columns, not objects: `session` may be a writing one that holds older objects.
        roots = session.execute(_LIVE).all()
        slots = {(row.root_kid, row.master_kid): row.wrapped for row in session.execute(_SLOTS)}
        opened = dict(self._roots)
        for root in roots:
            for master in masters:
                wrapped = slots.get((root.kid, master.key_id.hex()))
                if wrapped is not None and root.kid not in opened:
                    key = _unwrapped(root.kid, root.canary, wrapped, master)
                    if key is not None:
                        opened[root.kid] = key
        self._roots = opened
        self._shut = frozenset(root.kid for root in roots) - opened.keys()
        active = next((root.kid for root in roots if root.state == "active"), None)
        if active not in opened:
            return
        try:
            purposes = _active_purposes(session, opened)
        except (SecretUnreadable, LookupError) as error:
            log.error("a key of the ring is damaged or gone: %s", error)
            return
        for master in masters:
            if (active, master.key_id.hex()) in slots:
                self._master = master
                break
        self._purposes, self._open, self._loaded_at = purposes, True, self._clock()


def _since(row: PurposeKey, rows: Sequence[PurposeKey]) -> datetime:
    """When a key came into its state: one becomes active when the one before it is retired."""
    if row.state == "retired":
        return row.retired_at or row.created_at
    retired = [
        other.retired_at
        for other in rows
        if other.purpose == row.purpose and other.retired_at is not None
    ]
    return max([row.created_at, *retired]) if row.state == "active" else row.created_at


def _untouched(session: Session) -> bool:
    """Whether there is no key ring and nothing that a lost ring could have sealed."""
    return (
        session.scalar(select(func.count()).select_from(RootKey)) == 0
        and session.scalar(select(func.count()).select_from(Credential)) == 0
    )


def _new_root(master: MasterKey, state: str, now: datetime) -> tuple[RootKey, KeySlot, bytes]:
    key, root_id = crypto.new_key(), crypto.new_key_id()
    kid = root_id.hex()
    canary = crypto.seal(key, root_id, crypto.encode("canary", CANARY), (b"canary", root_id))
    wrapped = master.wrap(key, (root_id,))
    return (
        RootKey(kid=kid, state=state, canary=canary, created_at=now),
        KeySlot(root_kid=kid, master_kid=master.key_id.hex(), wrapped=wrapped, created_at=now),
        key,
    )


def _unwrapped(kid: str, canary: bytes, wrapped: bytes, master: MasterKey) -> bytes | None:
    """A root key whose slot opens and whose canary sings."""
    root_id = bytes.fromhex(kid)
    try:
        key = master.unwrap(wrapped, (root_id,))
        plaintext = crypto.open_sealed(key, root_id, canary, (b"canary", root_id))
        if crypto.decode("canary", plaintext) == CANARY:
            return key
    except (crypto.EnvelopeError, ValueError):
        pass
    log.error("the slot or the canary of root key %s cannot be opened", kid)
    return None


def _sealed(kid: str, root: bytes, kind: str, value: Any, context: Sequence[bytes]) -> SealedParts:
    data_key, data_key_id = crypto.new_key(), crypto.new_key_id()
    place = (b"data-key", data_key_id, *context)
    return SealedParts(
        blob=crypto.seal(data_key, data_key_id, crypto.encode(kind, value), context),
        dek_wrapped=crypto.seal(root, bytes.fromhex(kid), data_key, place),
        kek_kid=kid,
    )


def _opened(root: bytes, kind: str, parts: SealedParts, context: Sequence[bytes]) -> Any:
    data_key, place = _data_key(root, parts, context)
    try:
        plaintext = crypto.open_sealed(data_key, place[1], parts.blob, context)
        return crypto.decode(kind, plaintext)
    except (crypto.EnvelopeError, ValueError):
        raise SecretUnreadable from None


def _data_key(
    root: bytes, parts: SealedParts, context: Sequence[bytes]
) -> tuple[bytes, tuple[bytes, ...]]:
    """The data key, and what its wrapping is bound to."""
    try:
        data_key_id = crypto.sealed_key_id(parts.blob)
        place = (b"data-key", data_key_id, *context)
        kid = bytes.fromhex(parts.kek_kid)
        return crypto.open_sealed(root, kid, parts.dek_wrapped, place), place
    except (crypto.EnvelopeError, ValueError):
        raise SecretUnreadable from None


def _add_purpose(
    session: Session, root_kid: str, root: bytes, purpose: str, state: str, now: datetime
) -> str:
    kid, key, public = crypto.new_key_id().hex(), crypto.new_key(), None
    if purpose == USER_TOKEN:
        signing_key = Ed25519PrivateKey.generate()
        key = signing_key.private_bytes_raw()
        public = (
            signing_key.public_key()
            .public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            .hex()
        )
    parts = _sealed(root_kid, root, "purpose-key", key.hex(), purpose_context(purpose, kid))
    session.add(
        PurposeKey(
            kid=kid,
            purpose=purpose,
            state=state,
            public=public,
            created_at=now,
            blob=parts.blob,
            dek_wrapped=parts.dek_wrapped,
            kek_kid=parts.kek_kid,
        )
    )
    return kid


def _active_purposes(session: Session, roots: dict[str, bytes]) -> dict[str, tuple[str, bytes]]:
    found: dict[str, tuple[str, bytes]] = {}
    for row in session.execute(_PURPOSES.where(_PURPOSE.c.state == "active")):
        if row.kek_kid not in roots:
            raise LookupError(row.purpose)
        found[row.purpose] = (row.kid, _opened_purpose(roots[row.kek_kid], row))
    missing = {AUDIT, FINGERPRINT, USER_TOKEN} - found.keys()
    if missing:
        raise LookupError(*sorted(missing))
    return found


def _opened_purpose(root: bytes, row: Any) -> bytes:
    parts = SealedParts(row.blob, row.dek_wrapped, row.kek_kid)
    key: str = _opened(root, "purpose-key", parts, purpose_context(row.purpose, row.kid))
    return bytes.fromhex(key)


def purpose_context(purpose: str, kid: str) -> tuple[bytes, ...]:
    """What a purpose key is bound to."""
    return (b"purpose-key", purpose.encode(), kid.encode())
