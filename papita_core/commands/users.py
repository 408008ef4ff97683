"""`users`: accounts."""

from __future__ import annotations

import argparse

from papita_core.app import Papita
from papita_core.commands import OPERATOR, Group, add_command, group_of, typed_password
from papita_core.users.service import NewUser


def add(papita: Papita, args: argparse.Namespace) -> int:
    user = papita.users.create(
        OPERATOR,
        NewUser(
            args.name,
            typed_password(),
            email=args.email,
            role="administrator" if args.admin else "member",
        ),
    )
    print(f"added {user.username} ({user.role})")
    return 0


def list_users(papita: Papita, args: argparse.Namespace) -> int:
    for user in papita.users.list(OPERATOR):
        state = "disabled" if user.disabled else "enabled"
        print(f"{user.username}\t{user.role}\t{state}\t{user.email or '-'}")
    return 0


def disable(papita: Papita, args: argparse.Namespace) -> int:
    print(f"disabled {papita.users.set_disabled(OPERATOR, args.name, True).username}")
    return 0


def enable(papita: Papita, args: argparse.Namespace) -> int:
    print(f"enabled {papita.users.set_disabled(OPERATOR, args.name, False).username}")
    return 0


def reset_password(papita: Papita, args: argparse.Namespace) -> int:
    papita.users.reset_password(OPERATOR, args.name, typed_password())
    print("the password is set; every session of this user has ended")
    return 0


def register(groups: Group) -> None:
    group = group_of(groups, "users", "accounts")
    new = add_command(group, "add", add, "add a user; the password comes on standard input")
    new.add_argument("name")
    new.add_argument("--admin", action="store_true", help="make an administrator")
    new.add_argument("--email")
    new.add_argument("--password-stdin", action="store_true", required=True)
    add_command(group, "list", list_users, "name, role, state and e-mail of each user")
    for name, command, text in (
        ("disable", disable, "end sessions and leases, and keep the user out"),
        ("enable", enable, "let a disabled user in again"),
    ):
        add_command(group, name, command, text).add_argument("name")
    reset = add_command(group, "reset-password", reset_password, "set a password")
    reset.add_argument("name")
    reset.add_argument("--password-stdin", action="store_true", required=True)
