"""`audit`: the audit log."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import datetime

from papita_core.app import Papita
from papita_core.audit.export import as_csv, as_json_lines
from papita_core.audit.search import moment
from papita_core.audit.service import AuditFilter
from papita_core.commands import OPERATOR, Group, add_command, group_of

FORMATS = {"jsonl": as_json_lines, "csv": as_csv}


def verify(papita: Papita, args: argparse.Namespace) -> int:
    damages = papita.audit.verify()
    for damage in damages:
        print(f"{damage.stream}\t{damage.seq}\t{damage.kind}")
    if not damages:
        print(f"ok\t{papita.audit.count()} rows")
    return 1 if damages else 0


def export(papita: Papita, args: argparse.Namespace) -> int:
    wanted = AuditFilter(
        user_id=papita.audit.user_id(OPERATOR, args.user) if args.user else None,
        project_id=args.project,
        action=args.action,
        since=args.since,
        until=args.until,
    )
    lines = FORMATS[args.format](papita.audit.export(OPERATOR, wanted))
    try:
        for line in lines:
            sys.stdout.write(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has enough. What is still buffered must not fail once more at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _since(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            "this is no time; give for example 2030-01-31 or 2030-01-31T12:00:00Z"
        ) from None


def _until(text: str) -> datetime:
    try:
        return moment(text, end=True)
    except ValueError:
        return _since(text)


def register(groups: Group) -> None:
    group = group_of(groups, "audit", "the audit log")
    add_command(group, "verify", verify, "check the chain; names the first damaged row")
    made = add_command(group, "export", export, "print the log, oldest first")
    made.add_argument("--format", choices=tuple(FORMATS), default="jsonl")
    made.add_argument("--since", type=_since, metavar="T", help="from this time on; UTC")
    made.add_argument(
        "--until", type=_until, metavar="T", help="before this time; with a date alone, that day"
    )
    made.add_argument("--user", metavar="NAME", help="what this user did, or what concerns them")
    made.add_argument("--project", metavar="P", help="what concerns this project")
    made.add_argument("--action", metavar="A", help="for example credential.read")
