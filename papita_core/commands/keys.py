"""`keys`: the key ring."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from papita_core.app import Papita
from papita_core.commands import OPERATOR, Group, add_command, group_of, in_short
from papita_core.settings import SettingsError
from papita_core.vault.master_key import GENERATED, SERVICE, generated_paths, named_master_key
from papita_core.vault.rotation import Progress


def status(papita: Papita, args: argparse.Namespace) -> int:
    found = papita.ring.status
    print(f"vault\t{'sealed' if found.sealed else 'open'}")
    print(f"master key\t{found.master_kid or 'none'}")
    if found.source:
        print(f"from\t{found.source}")
    for root in found.roots:
        slots = "1 slot" if len(root.slots) == 1 else f"{len(root.slots)} slots"
        print(f"root key\t{root.kid}\t{root.state}\t{in_short(root.created_at)}\t{slots}")
    for kid in found.wanted:
        print(f"opens with\t{kid}")
    for key in found.purposes:
        print(f"{key.purpose} key\t{key.kid}\t{key.state}\t{in_short(key.since)}")
    progress = papita.rotation.progress()
    if progress.state != "idle":
        print(f"rotation\t{progress.state}\t{progress.done} of {progress.total}")
        if progress.problem:
            print(f"problem\t{progress.problem}")
        elif progress.state == "interrupted":
            print("to do\tkeys rotate goes on with it; so does the next start of the portal")
    return 1 if found.sealed else 0


def rotate(papita: Papita, args: argparse.Namespace) -> int:
    if (args.to is not None or args.finish) and not args.master:
        print("--to and --finish belong to --master", file=sys.stderr)
        return 2
    if args.to is not None and args.finish:
        print("--to comes first, then a restart, then --finish", file=sys.stderr)
        return 2
    try:
        return _which(args)(papita, args)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2


def _which(args: argparse.Namespace) -> Callable[[Papita, argparse.Namespace], int]:
    if args.signing:
        return _signing
    if args.audit:
        return _audit
    return _master if args.master else _root


def _root(papita: Papita, args: argparse.Namespace) -> int:
    shown = -1

    def show(progress: Progress) -> None:
        nonlocal shown
        percent = 100 * progress.done // max(1, progress.total)
        if percent > shown:
            shown = percent
            print(f"{percent} %\t{progress.done} of {progress.total}", flush=True)

    done = papita.rotation.rotate_root(OPERATOR, show)
    print(f"root key\t{done.new_kid}\tactive\t{done.moved} rows moved")
    for kid in done.lost:
        print(
            f"lost\t{kid}\tthis master key opened the ring until now, and does not any more;"
            " add it again with keys rotate --master --to"
        )
    if done.problem:
        print(done.problem, file=sys.stderr)
    return 1 if done.problem else 0


def _signing(papita: Papita, args: argparse.Namespace) -> int:
    print(f"user-token key\t{papita.rotation.rotate_signing(OPERATOR)}\tactive")
    return 0


def _audit(papita: Papita, args: argparse.Namespace) -> int:
    print(f"audit key\t{papita.rotation.rotate_audit(OPERATOR)}\tactive")
    return 0


def _master(papita: Papita, args: argparse.Namespace) -> int:
    if args.to is not None:
        added = papita.rotation.rotate_master(OPERATOR, named_master_key(args.to))
        setting = (
            f"PAPITA_MASTER_KEY_URI={args.to}"
            if SERVICE.match(args.to)
            else f"PAPITA_MASTER_KEY_FILE={Path(args.to).absolute()}"
        )
        print(f"master key\t{added.kid}\topens the ring, too")
        print(f"to do\trestart with {setting} and without the setting of the key before")
        print("to do\tthen run keys rotate --master --finish with the same setting")
        return 0
    rotation = papita.rotation
    change = rotation.finish_master(OPERATOR) if args.finish else rotation.rotate_master(OPERATOR)
    print(f"master key\t{change.kid}\tin force\t{change.source}")
    for kid in change.removed:
        print(f"removed\t{kid}\topens nothing any more")
    path, _ = generated_paths(papita.settings)
    if not change.source.startswith(GENERATED) and path.exists():
        print(f"to do\tdelete keys/{path.name}, which is of no use any more")
    return 0


def register(groups: Group) -> None:
    group = group_of(groups, "keys", "the key ring")
    add_command(group, "status", status, "whether the vault is open, and with which keys")
    command = add_command(
        group, "rotate", rotate, "change a key for a fresh one, while everything runs"
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--root", action="store_true", help="the root key; the default")
    which.add_argument("--signing", action="store_true", help="the key that signs user tokens")
    which.add_argument("--audit", action="store_true", help="the key of the audit log")
    which.add_argument("--master", action="store_true", help="the master key")
    command.add_argument(
        "--to", metavar="FILE_OR_URI", help="with --master: the new master key, which is there"
    )
    command.add_argument(
        "--finish", action="store_true", help="with --master: remove every other master key"
    )
