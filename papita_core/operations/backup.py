"""Backups: a folder with one SQLite file and a manifest, whichever engine it came from.

A backup is made while the portal runs, from one snapshot, under a scratch name: a folder of the
name that was asked for is whole. What is sealed stays sealed, and the master key is not in it. The
manifest is signed with a key of the ring, so that a file which somebody changed and described anew
is noticed by whoever has the master key.

A restore is one transaction: what was there before stays until everything is in place.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from sqlalchemy import Table, create_engine, delete, func, insert, make_url, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from papita_core import __version__
from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Base, Database
from papita_core.db.migrate import migrate, revisions
from papita_core.errors import Conflict, SecretUnreadable
from papita_core.grants.models import LeaseRow
from papita_core.operations.findings import (
    OK,
    PROBLEM,
    WARNING,
    Finding,
    audit_chain,
    sealed_rows,
)
from papita_core.projects import models as _project_states  # noqa: F401 - adds its table
from papita_core.settings import Settings
from papita_core.users.models import SessionRow, SetupCodeRow, UserRow
from papita_core.vault.keyring import AUDIT, KeyRing

FORMAT = 1
DATABASE, MANIFEST = "papita.db", "manifest.json"
CHUNK = 1000
MOST_MANIFEST_BYTES = 1 << 20
BACKED_UP, RESTORED = "vault.backed-up", "vault.restored"
LEAVES_WITHIN = timedelta(seconds=3)


# What a manifest says is printed before anything proves it.
Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,128}$")]
Plain = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.:+-]{1,40}$")]


class Head(BaseModel):
    """The newest row of an audit stream; `mac` in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stream: str
    seq: int
    mac: Hex


class Contents(BaseModel):
    """What a backup's database file says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    revision: Plain
    rows: dict[str, int]
    master_keys: list[Hex]
    audit_heads: list[Head]


class Signature(BaseModel):
    """`mac` (hex) over the rest of the manifest, with the audit key `key_kid` of the ring."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key_kid: Hex
    mac: Hex


class Manifest(Contents):
    """`manifest.json`. `master_keys` are the ids of the master keys that open the backup."""

    format: int
    papita: Plain
    engine: Literal["sqlite", "postgresql"]
    made_at: Plain
    sha256: Hex
    signature: Signature | None

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    @property
    def contents(self) -> Contents:
        return Contents(**{name: getattr(self, name) for name in Contents.model_fields})


@dataclass(frozen=True, slots=True)
class Backup:
    """An opened backup: its manifest, and a copy of its database in the present schema."""

    manifest: Manifest
    database: Database


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. `findings` is what is to be known or done now."""

    rows: int
    findings: tuple[Finding, ...]


# --- making one ---


def make_backup(
    database: Database, ring: KeyRing, audit: AuditLog, folder: Path, clock: Clock = utc_now
) -> Manifest:
    """Backs a database up into `folder`, which must not exist or be empty.

    Raises `Conflict` where the folder cannot be used. While the vault is sealed the manifest is not
    signed, and the audit log gets no row.
    """
    folder = folder.absolute()
    signing_key = None if ring.sealed else ring.purpose_key(AUDIT)
    try:
        if folder.is_symlink() or (
            os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir()))
        ):
            raise Conflict("There is something at this place already. Name another folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.partial")
        scratch.mkdir(mode=0o700)
        try:
            manifest = _write(database, scratch, signing_key, clock)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        _sync(folder.parent)
    except (OSError, sqlite3.Error, DBAPIError) as error:
        raise Conflict(
            f"The backup cannot be written: {_reason(error)}. Name another folder."
        ) from None
    if signing_key is not None:
        details = {"rows": manifest.total, "sha256": manifest.sha256}
        with database.write() as session:
            audit.append(session, Event(BACKED_UP, Actor.operator().user_id, details=details))
    return manifest


def _write(
    database: Database, folder: Path, signing_key: tuple[str, bytes] | None, clock: Clock
) -> Manifest:
    path = folder / DATABASE
    path.touch(0o600)  # SQLite would make it readable for others, and takes an empty file
    made_at = clock()
    if database.is_sqlite:
        _vacuum_into(database, path)
    else:
        # A place of its own, so that the journal and the empty pages of the copying stay there.
        with tempfile.TemporaryDirectory(dir=folder) as place:
            copy = Database(f"sqlite:///{Path(place) / DATABASE}")
            try:
                migrate(copy)
                with database.read() as source, copy.write() as target:
                    _copy(source.connection(), target.connection())
                _vacuum_into(copy, path)
            finally:
                copy.close()
    unsigned = Manifest(
        format=FORMAT,
        papita=__version__,
        engine="sqlite" if database.is_sqlite else "postgresql",
        made_at=made_at.isoformat(timespec="seconds"),
        sha256=_digest(path),
        signature=None,
        **dict(_contents(path)),
    )
    manifest = unsigned.model_copy(update={"signature": _signature(unsigned, signing_key)})
    text = json.dumps(manifest.model_dump(), indent=2) + "\n"
    descriptor = os.open(folder / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    for written in (path, folder / MANIFEST, folder):
        _sync(written)  # SQLite itself does not, for VACUUM INTO
    return manifest


def _vacuum_into(database: Database, path: Path) -> None:
    """One snapshot in one file, while others go on writing."""
    with closing(database.engine.raw_connection()) as connection:  # not in a transaction
        connection.cursor().execute("VACUUM INTO ?", (str(path),))


def _copy(source: Connection, target: Connection) -> int:
    """Copies every row of every table, referred ones first; says how many there were."""
    count = 0
    for table in _tables():
        rows = source.execute(select(table), execution_options={"yield_per": CHUNK})
        for part in rows.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in part])
            count += len(part)
    return count


def _tables() -> list[Table]:
    return Base.metadata.sorted_tables


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _contents(path: Path) -> Contents:
    """Reads a file that nobody writes, and leaves nothing beside it. Raises `Conflict`."""
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        connection.execute("PRAGMA trusted_schema=OFF")
        if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise Conflict(
                "The database file is damaged. Run `python -m papita_core doctor`,"
                " or take another backup."
            )
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
            )
            if name != "alembic_version" and not name.startswith("sqlite_")
        ]
        quoted = {name: '"' + name.replace('"', '""') + '"' for name in names}
        counts = {
            name: connection.execute(f"SELECT count(*) FROM {quoted[name]}").fetchone()[0]  # noqa: S608
            for name in names
        }
        masters = connection.execute(
            "SELECT DISTINCT master_kid FROM key_slots JOIN root_keys ON kid = root_kid"
            " WHERE state = 'active' ORDER BY 1"
        )
        heads = connection.execute("SELECT stream, seq, hex(mac) FROM audit_heads ORDER BY 1")
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return Contents(
            revision=revision,
            rows=counts,
            master_keys=[kid for (kid,) in masters],
            audit_heads=[Head(stream=name, seq=seq, mac=mac.lower()) for name, seq, mac in heads],
        )


def _signature(manifest: Manifest, key: tuple[str, bytes] | None) -> Signature | None:
    if key is None:
        return None
    return Signature(key_kid=key[0], mac=_mac(manifest, key[1]))


def _mac(manifest: Manifest, key: bytes) -> str:
    body = json.dumps(
        manifest.model_dump(exclude={"signature"}), sort_keys=True, separators=(",", ":")
    )
    # What the audit log chains begins otherwise, with the length of a stream's name.
    return hmac.new(key, b"papita backup manifest\0" + body.encode(), hashlib.sha256).hexdigest()


# --- reading one ---


@contextmanager
def open_backup(folder: Path) -> Iterator[Backup]:
    """Checks the backup in `folder` against its manifest, and opens a private copy of it.

    Nothing in `folder` is changed. Raises `Conflict`, whose sentence says what does not fit.
    """
    manifest = _read_manifest(folder)
    with tempfile.TemporaryDirectory(prefix="papita-restore-") as place:
        copy = Path(place) / DATABASE
        try:
            shutil.copyfile(folder / DATABASE, copy)
            copy.chmod(0o600)
            if _digest(copy) != manifest.sha256:
                raise Conflict(
                    "papita.db is not the file that was backed up: its SHA-256 is another one."
                    " Take another copy of this backup, or another backup."
                )
            contents = _contents(copy)
        except FileNotFoundError:
            raise Conflict("papita.db is missing in this folder. Name a whole backup.") from None
        except OSError as error:
            raise Conflict(f"papita.db cannot be read: {_reason(error)}.") from None
        except (sqlite3.Error, TypeError, ValueError):
            raise Conflict("papita.db is no database of Papita. Take another backup.") from None
        if contents != manifest.contents:
            raise Conflict(
                "manifest.json says something else than papita.db: one of them was changed."
                " Take another copy of this backup, or another backup."
            )
        if not contents.rows.get("root_keys"):
            raise Conflict("There is no key ring in this backup. Take another backup.")
        database = Database(f"sqlite:///{copy}")
        try:
            migrate(database)
            yield Backup(manifest, database)
        finally:
            database.close()


def _read_manifest(folder: Path) -> Manifest:
    damaged = Conflict("manifest.json is damaged. Take another copy of this backup.")
    try:
        with (folder / MANIFEST).open("rb") as file:
            written = file.read(MOST_MANIFEST_BYTES)
        document = json.loads(written)
    except (FileNotFoundError, NotADirectoryError):
        raise Conflict(
            "There is no manifest.json in this folder. Name a folder that `backup` made."
        ) from None
    except OSError as error:
        raise Conflict(f"manifest.json cannot be read: {_reason(error)}.") from None
    except (ValueError, RecursionError):
        raise damaged from None
    version = document.get("format") if isinstance(document, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise Conflict(
            f"This backup has format {version}, which is a later one: update Papita, then restore."
        )
    try:
        manifest = Manifest.model_validate_json(written)
    except ValidationError:
        raise damaged from None
    if manifest.format != FORMAT:
        raise damaged
    if manifest.revision not in revisions():
        raise Conflict(
            "This backup was made by another version of Papita, whose tables this one does not"
            " know: update Papita, then restore."
        )
    return manifest


def check_backup(folder: Path, settings: Settings, clock: Clock = utc_now) -> Iterator[Finding]:
    """What a restore would find; nothing is changed anywhere."""
    try:
        with open_backup(folder) as backup:
            yield from _described(backup)
            ring = KeyRing(backup.database, clock)
            ring.unseal(settings)
            signed = _signed(backup, ring)
            yield signed
            if ring.sealed:
                yield Finding(
                    PROBLEM, "secrets", f"The secrets cannot be opened. {_wanted(backup, ring)}"
                )
                return
            with backup.database.read() as session:
                yield from sealed_rows(session, ring)
            yield from audit_chain(AuditLog(backup.database, ring, clock))
    except Conflict as error:
        yield Finding(PROBLEM, "backup", str(error))


def _described(backup: Backup) -> Iterator[Finding]:
    manifest = backup.manifest
    yield Finding(
        OK,
        "manifest",
        f"Made {manifest.made_at} by Papita {manifest.papita} from {manifest.engine}.",
    )
    yield Finding(OK, "file", f"papita.db is whole, with {manifest.total} rows.")
    newest = revisions()[0]
    migrated = "" if manifest.revision == newest else f", which is brought to {newest}"
    yield Finding(OK, "schema", f"Revision {manifest.revision}{migrated}.")
    with backup.database.read() as session:
        loose = session.connection().exec_driver_sql("PRAGMA foreign_key_check").first()
    if loose is not None:
        yield Finding(
            PROBLEM,
            "references",
            "Rows refer to rows that are gone, so this backup cannot be restored."
            " Take another one.",
        )


def _signed(backup: Backup, ring: KeyRing) -> Finding:
    """Whether the manifest is the one that was made by whoever has the ring."""
    signature = backup.manifest.signature
    if signature is None:
        return Finding(
            WARNING,
            "signature",
            "There is none: the vault was sealed when this was made, or somebody took it away."
            " Restore it with --unsigned if you know where it comes from.",
        )
    if ring.sealed:
        return Finding(
            WARNING, "signature", "It cannot be checked without the master key that opens this."
        )
    try:
        with backup.database.read() as session:
            key = ring.purpose_key_by_id(session, signature.key_kid)
    except SecretUnreadable:
        key = b""
    if not hmac.compare_digest(_mac(backup.manifest, key), signature.mac):
        return Finding(
            PROBLEM,
            "signature",
            "The signature does not fit: this backup was changed after it was made."
            " Take another backup.",
        )
    return Finding(OK, "signature", "The manifest is the one that was made.")


def _wanted(backup: Backup, ring: KeyRing) -> str:
    kids = " or ".join(backup.manifest.master_keys)
    at_hand = ring.status.master_kid
    if at_hand in backup.manifest.master_keys:
        return (
            f"The key ring is damaged: master key {at_hand} is the right one and does not open it."
        )
    found = "there is no master key" if at_hand is None else f"the master key here is {at_hand}"
    return (
        f"It needs the master key {kids}, and {found}. Put the right one into keys/master.key"
        " or PAPITA_MASTER_KEY."
    )


# --- putting one back ---


def held_by_another(url: str) -> bool:
    """Whether another process works with this database: it would go on with its old key ring."""
    until = time.monotonic() + LEAVES_WITHIN.total_seconds()
    while _held(url):  # a server takes a moment to notice that a process has gone
        if time.monotonic() > until:
            return True
        time.sleep(0.1)
    return False


def _held(url: str) -> bool:
    made = make_url(url)
    if made.get_backend_name() == "sqlite":
        path = Path(made.database or "")
        if not path.is_file():
            return False
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
            try:
                # The write-ahead log can be left by the last who uses the file alone.
                connection.execute("PRAGMA journal_mode=DELETE")
            except sqlite3.OperationalError as error:
                return error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            except sqlite3.DatabaseError:
                return False  # no database at all; whoever opens it next says so
        return False
    engine = create_engine(url, hide_parameters=True, poolclass=NullPool)
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND usename = current_user AND pid <> pg_backend_pid()"
    )
    try:
        with engine.connect() as connection:
            return bool(connection.scalar(others))
    except DBAPIError:
        return False  # not to be reached; whoever opens it next says so


def restore(
    backup: Backup,
    database: Database,
    settings: Settings,
    *,
    replace: bool = False,
    unsigned: bool = False,
    clock: Clock = utc_now,
) -> Restored:
    """Puts a backup into `database`, which has the present schema, in one transaction.

    Sign-in sessions and leases of the backup end, and set-up codes go: an old backup must not
    revive them. Raises `Conflict` if there are users and not `replace`, and if the signature is
    wrong, or missing and not `unsigned`. Without the right master key the signature cannot be
    checked and the audit log gets no row; `Restored.findings` says so.
    """
    ring = KeyRing(backup.database, clock)
    ring.unseal(settings)
    signed = _signed(backup, ring)
    if signed.level == PROBLEM or (backup.manifest.signature is None and not unsigned):
        raise Conflict(signed.sentence)
    try:
        with database.write() as session:
            database.one_at_a_time(session)
            if not replace and session.scalar(select(func.count()).select_from(UserRow)):
                raise Conflict(
                    "This database has users. Back it up, then restore with --replace,"
                    " or name another database."
                )
            rows = _replace_all(backup, session)
            _end_everything(session, clock)
            if not ring.sealed:
                details: dict[str, Any] = {
                    "made_at": backup.manifest.made_at,
                    "rows": rows,
                    "sha256": backup.manifest.sha256,
                }
                event = Event(RESTORED, Actor.operator().user_id, details=details)
                AuditLog(database, ring, clock).append(session, event)
    except IntegrityError:
        raise Conflict(
            "Rows of this backup refer to rows that are gone. Nothing was changed."
            " Take another backup."
        ) from None
    except DBAPIError as error:
        raise Conflict(
            f"The database did not take the backup: {_reason(error)}. Nothing was changed."
        ) from None
    if not ring.sealed:
        return Restored(rows, (signed,))
    sealed = Finding(
        WARNING,
        "vault",
        f"The vault is sealed, and the audit log got no row for this. {_wanted(backup, ring)}",
    )
    return Restored(rows, (signed, sealed))


def _replace_all(backup: Backup, session: Session) -> int:
    target = session.connection()
    for table in reversed(_tables()):
        target.execute(delete(table))
    with backup.database.read() as source:
        return _copy(source.connection(), target)


def _end_everything(session: Session, clock: Clock) -> None:
    now = clock()
    session.execute(
        update(SessionRow)
        .where(SessionRow.ended_at.is_(None))
        .values(ended_at=now, ticket_hash=None),
        execution_options={"synchronize_session": False},
    )
    session.execute(
        update(LeaseRow).where(LeaseRow.revoked_at.is_(None)).values(revoked_at=now),
        execution_options={"synchronize_session": False},
    )
    session.execute(delete(SetupCodeRow))


def _reason(error: Exception) -> str:
    """In a few words why a disk or a database refuses, without any value."""
    cause = getattr(error, "orig", error)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, sqlite3.Error):
        return str(cause).partition("\n")[0]
    return type(cause).__name__
