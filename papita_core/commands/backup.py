"""`backup` and `restore`: a whole installation, except for the master key."""

from __future__ import annotations

import argparse
from pathlib import Path

from papita_core.app import Papita, open_database
from papita_core.commands import Group, add_command, add_host_command
from papita_core.commands.doctor import reported
from papita_core.errors import Conflict
from papita_core.operations.backup import (
    check_backup,
    held_by_another,
    make_backup,
    open_backup,
    restore,
)
from papita_core.settings import Settings


def back_up(papita: Papita, args: argparse.Namespace) -> int:
    manifest = make_backup(papita.database, papita.ring, papita.audit, args.folder)
    print(f"backed up to {args.folder.absolute()}: {manifest.total} rows")
    print(f"it opens with the master key {' or '.join(manifest.master_keys)}")
    print("that key is NOT in the backup: keep a copy of it elsewhere, not beside the backup")
    if manifest.signature is None:
        print("the vault is sealed: the backup is not signed, and the audit log has no row of it")
    return 0


def put_back(settings: Settings, args: argparse.Namespace) -> int:
    if args.check:
        return reported(check_backup(args.folder, settings))
    with open_backup(args.folder) as backup:
        if held_by_another(settings.database):
            raise Conflict(
                "Another process works with this database. Stop Papita, and whatever else uses it,"
                " then restore."
            )
        database = open_database(settings)
        try:
            restored = restore(
                backup, database, settings, replace=args.replace, unsigned=args.unsigned
            )
        finally:
            database.close()
    print(f"restored {restored.rows} rows of {backup.manifest.made_at}")
    print("every sign-in session has ended, and every lease; users sign in anew")
    return reported(restored.findings)


def register(groups: Group) -> None:
    text = "write everything but the master key into a new folder, while Papita runs"
    add_command(groups, "backup", back_up, text).add_argument("folder", type=Path, metavar="DIR")
    text = "put a backup in place of what is in the database; stop Papita first"
    back = add_host_command(groups, "restore", put_back, text)
    back.add_argument("folder", type=Path, metavar="DIR")
    back.add_argument("--check", action="store_true", help="only look whether it could be restored")
    back.add_argument("--replace", action="store_true", help="even though the database has users")
    back.add_argument(
        "--unsigned", action="store_true", help="even though it was made while the vault was sealed"
    )
