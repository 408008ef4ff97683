"""`audit`: the audit log."""

from __future__ import annotations

import argparse

from papita_core.app import Papita
from papita_core.commands import Group, add_command, group_of


def verify(papita: Papita, args: argparse.Namespace) -> int:
    damages = papita.audit.verify()
    for damage in damages:
        print(f"{damage.stream}\t{damage.seq}\t{damage.kind}")
    if not damages:
        print(f"ok\t{papita.audit.count()} rows")
    return 1 if damages else 0


def register(groups: Group) -> None:
    group = group_of(groups, "audit", "the audit log")
    add_command(group, "verify", verify, "check the chain; names the first damaged row")
