"""`keys`: the key ring."""

from __future__ import annotations

import argparse

from papita_core.app import Papita
from papita_core.commands import Group, add_command, group_of


def status(papita: Papita, args: argparse.Namespace) -> int:
    found = papita.ring.status
    print(f"vault\t{'sealed' if found.sealed else 'open'}")
    print(f"master key\t{found.master_kid or 'none'}")
    for kid, state in found.roots:
        print(f"root key\t{kid}\t{state}")
    for kid in found.wanted:
        print(f"opens with\t{kid}")
    return 1 if found.sealed else 0


def register(groups: Group) -> None:
    group = group_of(groups, "keys", "the key ring")
    add_command(group, "status", status, "whether the vault is open, and with which keys")
