"""Changing the master key while everything runs.

As in LUKS, a root key may have several slots, one for each master key that opens it: a slot is
added, the new key is put in force, the old slots are removed, and a kill between any two steps
leaves a ring that opens. Processes that run hold the root keys and need no restart for the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from papita_core.audit.service import AuditLog, Event
from papita_core.db import Database, table_of
from papita_core.errors import Conflict, InvalidInput, RotationRunning
from papita_core.settings import Settings
from papita_core.vault.keyring import KeyRing
from papita_core.vault.master_key import (
    GENERATED,
    MasterKey,
    find_master_key,
    next_generated,
    put_next_in_force,
)
from papita_core.vault.models import KeySlot, RootKey

_ROOT, _SLOT = table_of(RootKey), table_of(KeySlot)


@dataclass(frozen=True, slots=True)
class MasterChange:
    """A master key that opens the ring now, and those that no longer do."""

    kid: str
    source: str
    removed: tuple[str, ...] = ()


class MasterRotation:
    """The steps of `KeyRotation.rotate_master`, which sees to it that nobody else rotates."""

    def __init__(
        self, database: Database, ring: KeyRing, audit: AuditLog, settings: Settings
    ) -> None:
        self._database = database
        self._ring = ring
        self._audit = audit
        self._settings = settings

    def change_generated(self, actor_id: str) -> MasterChange:
        """Puts a fresh key into `keys/master.key`.

        Killed before the file is replaced, it goes on with the same fresh key when it is called
        again; killed after that, the fresh key is in force and the old slots are left, which the
        next call removes.
        """
        own = self._ring.master
        if not own.source.startswith(GENERATED):
            raise InvalidInput(
                {
                    "to": f"The master key comes from {own.source}, so Papita cannot change it by"
                    " itself. Name the new one with --to: a file, or the URI of a service."
                }
            )
        coming = next_generated(self._settings)
        if coming.key_id != own.key_id:
            self.add(actor_id, coming)
        put_next_in_force(self._settings)
        self._ring.use_master(find_master_key(self._settings, generate=False) or coming)
        return self.remove_others(actor_id)

    def add(self, actor_id: str, new: MasterKey) -> MasterChange:
        """Gives `new` a slot for each root key, and reads it back."""
        kid = new.key_id.hex()
        roots = self._live()
        with self._database.read() as session:
            there = set(session.scalars(select(_SLOT.c.root_kid).where(_SLOT.c.master_kid == kid)))
        # Before the transaction, since a key service may have to be asked.
        slots = [self._ring.slot_for(root, new) for root in roots if root not in there]
        with self._database.write() as session:
            if set(session.scalars(_live())) != set(roots):
                raise RotationRunning
            for slot in slots:
                session.execute(
                    insert(_SLOT).values(
                        root_kid=slot.root_kid,
                        master_kid=slot.master_kid,
                        wrapped=slot.wrapped,
                        created_at=slot.created_at,
                    )
                )
            if slots:
                self._record(session, "key.master-added", actor_id, kid, {"source": new.source})
        self._read_back(roots, new)
        return MasterChange(kid, new.source)

    def remove_others(self, actor_id: str) -> MasterChange:
        """Removes the slots of every master key but the one in force."""
        own = self._ring.master
        kid = own.key_id.hex()
        self._read_back(self._live(), own)
        with self._database.write() as session:
            others = tuple(
                sorted(
                    session.scalars(
                        delete(_SLOT).where(_SLOT.c.master_kid != kid).returning(_SLOT.c.master_kid)
                    )
                )
            )
            removed = tuple(dict.fromkeys(others))
            if set(session.scalars(_live())) - set(
                session.scalars(select(_SLOT.c.root_kid).where(_SLOT.c.master_kid == kid))
            ):
                raise RotationRunning  # a root key came meanwhile
            if removed:
                self._record(
                    session, "key.master-removed", actor_id, kid, {"removed": list(removed)}
                )
        return replace(MasterChange(kid, own.source), removed=removed)

    def _live(self) -> list[str]:
        """The root keys in use. Raises `Conflict` where one is not open here."""
        with self._database.read() as session:
            roots = list(session.scalars(_live()))
        for root in roots:
            if not self._ring.knows(root):
                raise Conflict(
                    f"The root key {root} does not open with the master key in force, so its slots"
                    " stay as they are. Start with the master key that opens it, run keys rotate,"
                    " and then this again."
                )
        return roots

    def _read_back(self, roots: list[str], master: MasterKey) -> None:
        kid = master.key_id.hex()
        with self._database.read() as session:
            slots = session.scalars(select(KeySlot).where(KeySlot.master_kid == kid)).all()
        good = {slot.root_kid for slot in slots if self._ring.fits(slot, master)}
        bad = [root for root in roots if root not in good]
        if not bad:
            return
        with self._database.write() as session:
            if master.key_id != self._ring.master.key_id:
                session.execute(
                    delete(_SLOT).where(_SLOT.c.master_kid == kid, _SLOT.c.root_kid.in_(bad))
                )
        raise Conflict(
            f"The master key {kid} does not open the root key {bad[0]}, so nothing was removed."
            " Look at keys status, and run the command again."
        )

    def _record(
        self, session: Session, action: str, actor_id: str, kid: str, details: dict[str, Any]
    ) -> None:
        self._audit.append(session, Event(action, actor_id, subject_id=kid, details=details))


def _live() -> Any:
    return select(_ROOT.c.kid).where(_ROOT.c.state != "retired").order_by(_ROOT.c.kid)
