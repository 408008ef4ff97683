"""Looks an installation over and says what is wrong with it, and what to do about that.

Nothing is changed: the database is not migrated, no key is generated, and no sealed value is shown.
It works while the portal runs, while the vault is sealed, and while the portal does not start.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from alembic.util import CommandError
from sqlalchemy import and_, func, make_url, select
from sqlalchemy import case as sql_case
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from papita_core.audit.models import AuditRow
from papita_core.audit.service import AuditLog
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.db.migrate import revision_of, revisions
from papita_core.operations.backup import BACKED_UP
from papita_core.operations.findings import (
    OK,
    PROBLEM,
    WARNING,
    Finding,
    audit_chain,
    counted,
    named,
    sealed_rows,
)
from papita_core.settings import Settings, SettingsError, origin_of
from papita_core.users.models import UserRow
from papita_core.vault.keyring import USER_TOKEN, KeyRing
from papita_core.vault.models import Credential, CredentialSecret, PurposeKey, RootKey

BACKUP_EVERY = timedelta(days=7)
EXPIRES_SOON = timedelta(days=14)
CLOCKS_DIFFER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Case:
    """What the checks of an open database look at."""

    settings: Settings
    database: Database
    ring: KeyRing
    session: Session
    clock: Clock

    @property
    def now(self) -> datetime:
        return self.clock()


def examine(settings: Settings, clock: Clock = utc_now) -> Iterator[Finding]:
    """One or more findings for each check, as they are made."""
    yield from _files(settings)
    if not _there(settings):
        yield Finding(
            PROBLEM,
            "database",
            "There is none yet. Start Papita, which makes it, or restore a backup.",
        )
        return
    database = Database(settings.database)
    try:
        if not database.reachable():
            yield Finding(PROBLEM, "database", _unreachable(settings))
            return
        yield Finding(OK, "database", f"It answers ({database.url.get_backend_name()}).")
        schema = _schema(database)
        yield schema
        yield from _integrity(database)
        if schema.level == OK:  # the other checks know these tables alone
            yield from _rows(settings, database, clock)
    except SQLAlchemyError as error:
        yield Finding(
            PROBLEM,
            "database",
            f"It fails while it is read: {type(error).__name__}. Restore a backup if this stays.",
        )
    finally:
        database.close()


# --- without a database ---


def _files(settings: Settings) -> Iterator[Finding]:
    found = [
        *_private_folder(settings.data_dir, "data folder"),
        *_private_folder(settings.keys_dir, "keys folder"),
        *_master_key_file(settings),
    ]
    yield from found or [Finding(OK, "files", "Nobody but their owner may read them.")]


def _private_folder(folder: Path, name: str) -> Iterator[Finding]:
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError:
        return
    if mode & 0o022:
        yield Finding(PROBLEM, "files", f"Others may write the {name}: run chmod 700 on it.")
    elif mode & 0o077:
        yield Finding(WARNING, "files", f"Others may read the {name}: run chmod 700 on it.")


def _master_key_file(settings: Settings) -> Iterator[Finding]:
    path = settings.master_key_file
    if path is None:
        return  # the generated one has to be private, or the ring does not open
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # said where the ring is opened
    if path.is_symlink():
        yield Finding(
            WARNING,
            "files",
            "PAPITA_MASTER_KEY_FILE names a link: see that nobody else can turn it elsewhere.",
        )
    if mode & 0o077:
        yield Finding(
            WARNING,
            "files",
            "Others may read the file that PAPITA_MASTER_KEY_FILE names: run chmod 600 on it.",
        )


def _there(settings: Settings) -> bool:
    """Whether there is something to connect to; SQLite would make an empty file."""
    url = make_url(settings.database)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()


def _unreachable(settings: Settings) -> str:
    if settings.database_url:
        return "It does not answer. See that it runs, and what PAPITA_DATABASE_URL says."
    return "papita.db cannot be read. See who may read it, or restore a backup."


# --- the database as a whole ---


def _schema(database: Database) -> Finding:
    known = revisions()
    try:
        revision = revision_of(database)
    except CommandError:
        revision = ""
    if revision == known[0]:
        return Finding(OK, "schema", f"Revision {revision}, the newest.")
    if revision is None:
        return Finding(
            PROBLEM, "schema", "There are no tables yet. Start Papita, or restore a backup."
        )
    if revision in known:
        return Finding(
            PROBLEM,
            "schema",
            f"Revision {revision} is an earlier one than {known[0]}. Take a backup with the version"
            " of Papita that made it, then start this one.",
        )
    return Finding(
        PROBLEM, "schema", "The tables are those of another version of Papita. Update Papita."
    )


def _integrity(database: Database) -> Iterator[Finding]:
    if not database.is_sqlite:
        return  # PostgreSQL keeps watch over its own pages
    with database.read() as session:
        connection = session.connection()
        damage = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        loose = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if damage != "ok":
        yield Finding(
            PROBLEM, "integrity", "The database file is damaged. Stop Papita and restore a backup."
        )
    if loose:
        tables = sorted({row[0] for row in loose})
        yield Finding(
            PROBLEM,
            "integrity",
            f"{counted(len(loose), 'row refers', 'rows refer')} to rows that are gone, in"
            f" {', '.join(tables)}. Restore a backup.",
        )
    if damage == "ok" and not loose:
        yield Finding(OK, "integrity", "The database file is whole.")


# --- what the rows say ---


def _rows(settings: Settings, database: Database, clock: Clock) -> Iterator[Finding]:
    ring = KeyRing(database, clock)
    with database.read() as session:
        case = _Case(settings, database, ring, session, clock)
        yield from _ring(case)
        yield from _root_keys(case)
        if ring.sealed:
            for name in ("secrets", "audit log"):
                yield Finding(
                    WARNING, name, "Not looked at, since the vault is sealed. Open it first."
                )
        else:
            yield from sealed_rows(session, ring)
            yield from audit_chain(AuditLog(database, ring, clock))
        for check in (
            _secrets_and_credentials,
            _origins,
            _signing_key,
            _administrators,
            _expiring,
            _last_backup,
            _clocks,
        ):
            yield from check(case)


def _ring(case: _Case) -> Iterator[Finding]:
    roots = case.session.scalar(select(func.count()).select_from(RootKey))
    if not roots:
        if case.session.scalar(select(func.count()).select_from(Credential)):
            yield Finding(
                PROBLEM, "key ring", "It is gone, and there are credentials. Restore a backup."
            )
        else:
            yield Finding(WARNING, "key ring", "There is none yet. Papita makes it when it starts.")
        return
    try:
        case.ring.unseal(case.settings)  # makes nothing, since there is a ring
    except SettingsError as error:
        yield Finding(PROBLEM, "key ring", f"The master key cannot be used. {error}")
        return
    status = case.ring.status
    if not status.sealed:
        yield Finding(OK, "key ring", f"Open with the master key {status.master_kid}.")
    elif _key_is_kept_elsewhere(case.settings):
        yield Finding(
            PROBLEM,
            "key ring",
            "The vault is sealed: the service that PAPITA_MASTER_KEY_URI names does not open it."
            f" See that it answers, and that it has the master key {' or '.join(status.wanted)}.",
        )
    elif status.master_kid in status.wanted:
        yield Finding(
            PROBLEM,
            "key ring",
            f"It is damaged: the master key {status.master_kid} is the right one and does not open"
            " it. Restore a backup.",
        )
    else:
        found = status.master_kid or "none"
        yield Finding(
            PROBLEM,
            "key ring",
            f"The vault is sealed: it needs the master key {' or '.join(status.wanted)}, and finds"
            f" {found}. Put the right one into keys/master.key or PAPITA_MASTER_KEY.",
        )


def _key_is_kept_elsewhere(settings: Settings) -> bool:
    named_here = settings.master_key or settings.master_key_file
    return settings.master_key_uri is not None and not named_here


def _root_keys(case: _Case) -> Iterator[Finding]:
    states: dict[str, list[str]] = {}
    for kid, state in case.session.execute(select(RootKey.kid, RootKey.state)):
        states.setdefault(state, []).append(kid)
    if not states:
        return
    whole = True
    active = len(states.get("active", ()))
    if active != 1:
        whole = False
        yield Finding(
            PROBLEM,
            "root keys",
            f"There {'are' if active else 'is'} {active or 'no'} active one{'s' if active else ''},"
            " and there has to be exactly one. Restore a backup.",
        )
    for state in sorted(states.keys() - {"active", "retired"}):
        whole = False
        yield Finding(
            WARNING,
            "root keys",
            f"{named(states[state])} is {state}: a rotation is going on, or was cut off. In that"
            " case run `python -m papita_core keys rotate`, which ends it.",
        )
    if whole:
        yield Finding(OK, "root keys", "One is active, and no rotation is left over.")


def _secrets_and_credentials(case: _Case) -> Iterator[Finding]:
    fits = and_(
        CredentialSecret.credential_id == Credential.id,
        CredentialSecret.version == Credential.version,
    )
    without = list(
        case.session.scalars(
            select(Credential.id)
            .outerjoin(CredentialSecret, fits)
            .where(CredentialSecret.credential_id.is_(None))
            .order_by(Credential.id)
        )
    )
    astray = list(
        case.session.scalars(
            select(CredentialSecret.credential_id)
            .outerjoin(Credential, fits)
            .where(Credential.id.is_(None))
            .order_by(CredentialSecret.credential_id)
        )
    )
    if without:
        yield Finding(
            PROBLEM,
            "credentials",
            f"{counted(len(without), 'has', 'have')} no secret of the present version:"
            f" {named(without)}. Their owners have to enter the keys again.",
        )
    if astray:
        yield Finding(
            PROBLEM,
            "credentials",
            f"{counted(len(astray), 'secret belongs', 'secrets belong')} to no credential in its"
            f" present version: {named(astray)}. Somebody changed these rows outside Papita;"
            " restore a backup.",
        )
    if not without and not astray:
        count = case.session.scalar(select(func.count()).select_from(Credential)) or 0
        have = counted(count, "credential has its secret", "credentials have their secrets")
        yield Finding(OK, "credentials", f"{have}.")


def _origins(case: _Case) -> Iterator[Finding]:
    turned = [
        credential_id
        for credential_id, base_url, origin in case.session.execute(
            select(Credential.id, Credential.base_url, Credential.origin).order_by(Credential.id)
        )
        if _origin(base_url) != origin
    ]
    if turned:
        yield Finding(
            PROBLEM,
            "addresses",
            f"{counted(len(turned), 'base URL leads', 'base URLs lead')} away from the origin that"
            f" the key is bound to: {named(turned)}. Somebody changed them outside Papita; the keys"
            " are not sent there. Their owners have to enter them again.",
        )
    else:
        yield Finding(OK, "addresses", "Every base URL fits the origin that its key is bound to.")


def _origin(base_url: str) -> str | None:
    try:
        return origin_of(base_url) if base_url else ""  # a type without an address
    except ValueError:
        return None


def _signing_key(case: _Case) -> Iterator[Finding]:
    days = case.settings.signing_key_days
    created, retired = case.session.execute(
        select(
            func.max(sql_case((PurposeKey.state == "active", PurposeKey.created_at))),
            func.max(PurposeKey.retired_at),
        ).where(PurposeKey.purpose == USER_TOKEN)
    ).one()
    if created is None:
        return  # said with the key ring
    # In use since the last one was retired; it was made before that, as the next one.
    age = case.now - max(created, retired or created)
    if age > timedelta(days=days):
        yield Finding(
            WARNING,
            "signing key",
            f"It is {counted(age.days, 'day', 'days')} old, and PAPITA_SIGNING_KEY_DAYS says"
            f" {days}. Run `python -m papita_core keys rotate --signing`.",
        )
    else:
        yield Finding(OK, "signing key", f"It is {counted(age.days, 'day', 'days')} old.")


def _administrators(case: _Case) -> Iterator[Finding]:
    count = case.session.scalar(
        select(func.count())
        .select_from(UserRow)
        .where(UserRow.role == "administrator", UserRow.disabled_at.is_(None))
    )
    if not count:
        yield Finding(
            PROBLEM,
            "administrators",
            "There is none who may sign in. Run `python -m papita_core users enable NAME`, or"
            " `users add NAME --admin`.",
        )
    else:
        yield Finding(OK, "administrators", f"{count} may sign in.")


def _expiring(case: _Case) -> Iterator[Finding]:
    now = case.now
    times = list(
        case.session.scalars(
            select(Credential.expires_at).where(Credential.expires_at <= now + EXPIRES_SOON)
        )
    )
    expired = sum(1 for moment in times if moment is not None and moment <= now)
    soon = len(times) - expired
    if not times:
        days = EXPIRES_SOON.days
        yield Finding(OK, "expiry", f"No credential expires within {days} days.")
        return
    yield Finding(
        WARNING,
        "expiry",
        f"{counted(expired, 'credential has', 'credentials have')} expired and {soon} will within"
        f" {EXPIRES_SOON.days} days. Ask their owners to replace them.",
    )


def backups(session: Session) -> tuple[datetime | None, datetime | None]:
    """When the last backup was made, if ever, and when the audit log began."""
    last = session.scalar(select(func.max(AuditRow.at)).where(AuditRow.action == BACKED_UP))
    return last, session.scalar(select(func.min(AuditRow.at)))


def _last_backup(case: _Case) -> Iterator[Finding]:
    last, _ = backups(case.session)
    advice = "Run `python -m papita_core backup DIR`."
    if last is None:
        yield Finding(WARNING, "backup", f"There has never been one. {advice}")
        return
    age = case.now - last
    old = age > BACKUP_EVERY
    yield Finding(
        WARNING if old else OK,
        "backup",
        f"The last one is {counted(max(age.days, 0), 'day', 'days')} old."
        + (f" {advice}" if old else ""),
    )


def _clocks(case: _Case) -> Iterator[Finding]:
    newest = case.session.scalar(select(func.max(AuditRow.at)))
    ahead = timedelta() if newest is None else newest - case.now
    if ahead > CLOCKS_DIFFER:
        yield Finding(
            PROBLEM,
            "clock",
            f"The newest row of the audit log is {ahead.total_seconds() // 60:.0f} minutes in the"
            " future. See that the clock of this machine is right.",
        )
    else:
        yield Finding(OK, "clock", "No row is from the future.")
