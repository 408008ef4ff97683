"""`python -m papita_core`: what an operator does on the host.

Exit codes: 0 done, 1 the thing asked for is not so, 2 bad arguments or settings. Errors are one
line on standard error.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NoReturn

from sqlalchemy.exc import SQLAlchemyError

from papita_core import __version__
from papita_core.actors import TOKEN_SCOPES, Actor
from papita_core.app import Papita, build
from papita_core.errors import PapitaError
from papita_core.settings import Settings, SettingsError
from papita_core.users.passwords import MAX_LENGTH
from papita_core.users.service import NewUser

Command = Callable[[Papita, argparse.Namespace], int]
OPERATOR = Actor.operator()


def users_add(papita: Papita, args: argparse.Namespace) -> int:
    user = papita.users.create(
        OPERATOR,
        NewUser(
            args.name,
            _password(),
            email=args.email,
            role="administrator" if args.admin else "member",
        ),
    )
    print(f"added {user.username} ({user.role})")
    return 0


def users_list(papita: Papita, args: argparse.Namespace) -> int:
    for user in papita.users.list(OPERATOR):
        state = "disabled" if user.disabled else "enabled"
        print(f"{user.username}\t{user.role}\t{state}\t{user.email or '-'}")
    return 0


def users_disable(papita: Papita, args: argparse.Namespace) -> int:
    print(f"disabled {papita.users.set_disabled(OPERATOR, args.name, True).username}")
    return 0


def users_enable(papita: Papita, args: argparse.Namespace) -> int:
    print(f"enabled {papita.users.set_disabled(OPERATOR, args.name, False).username}")
    return 0


def users_reset_password(papita: Papita, args: argparse.Namespace) -> int:
    papita.users.reset_password(OPERATOR, args.name, _password())
    print("the password is set; every session of this user has ended")
    return 0


def tokens_create(papita: Papita, args: argparse.Namespace) -> int:
    new = papita.access_tokens.create(
        OPERATOR,
        name=args.name,
        scopes=tuple(args.scope or TOKEN_SCOPES),
        days=args.expires,
        username=args.user,
    )
    print(new.token)
    return 0


def tokens_list(papita: Papita, args: argparse.Namespace) -> int:
    for token in papita.access_tokens.list(OPERATOR, username=args.user):
        expires, used = _time(token.expires_at), _time(token.last_used_at)
        print(f"{token.id}\t{token.name}\t{','.join(token.scopes)}\t{expires}\t{used}")
    return 0


def tokens_revoke(papita: Papita, args: argparse.Namespace) -> int:
    papita.access_tokens.revoke(OPERATOR, args.id)
    print("revoked")
    return 0


def keys_status(papita: Papita, args: argparse.Namespace) -> int:
    status = papita.ring.status
    print(f"vault\t{'sealed' if status.sealed else 'open'}")
    print(f"master key\t{status.master_kid or 'none'}")
    for kid, state in status.roots:
        print(f"root key\t{kid}\t{state}")
    for kid in status.wanted:
        print(f"opens with\t{kid}")
    return 1 if status.sealed else 0


def audit_verify(papita: Papita, args: argparse.Namespace) -> int:
    damages = papita.audit.verify()
    for damage in damages:
        print(f"{damage.stream}\t{damage.seq}\t{damage.kind}")
    if not damages:
        print(f"ok\t{papita.audit.count()} rows")
    return 1 if damages else 0


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, and which help to read."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized"):
            # Not repeated: somebody may have typed a password there.
            message = "there are arguments too many"
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def parser() -> argparse.ArgumentParser:
    root = Parser(prog="python -m papita_core", description="Papita on the host.")
    root.add_argument("--version", action="version", version=__version__)
    groups = root.add_subparsers(required=True, metavar="COMMAND")

    users = groups.add_parser("users", help="accounts").add_subparsers(required=True, metavar="DO")
    add = _command(users, "add", users_add, "add a user; the password comes on standard input")
    add.add_argument("name")
    add.add_argument("--admin", action="store_true", help="make an administrator")
    add.add_argument("--email")
    add.add_argument("--password-stdin", action="store_true", required=True)
    _command(users, "list", users_list, "name, role, state and e-mail of each user")
    for name, command, text in (
        ("disable", users_disable, "end sessions and leases, and keep the user out"),
        ("enable", users_enable, "let a disabled user in again"),
    ):
        _command(users, name, command, text).add_argument("name")
    reset = _command(users, "reset-password", users_reset_password, "set a password")
    reset.add_argument("name")
    reset.add_argument("--password-stdin", action="store_true", required=True)

    tokens = groups.add_parser("tokens", help="personal access tokens").add_subparsers(
        required=True, metavar="DO"
    )
    create = _command(tokens, "create", tokens_create, "make a token and print it, once")
    create.add_argument("--user", required=True)
    create.add_argument("--name", required=True)
    create.add_argument(
        "--scope", action="append", choices=TOKEN_SCOPES, help="default: all; may be repeated"
    )
    create.add_argument("--expires", type=int, default=90, metavar="DAYS", help="default: 90")
    listing = _command(tokens, "list", tokens_list, "id, name, scopes, expiry and last use")
    listing.add_argument("--user", required=True)
    _command(tokens, "revoke", tokens_revoke, "revoke a token").add_argument("id")

    keys = groups.add_parser("keys", help="the key ring").add_subparsers(
        required=True, metavar="DO"
    )
    _command(keys, "status", keys_status, "whether the vault is open, and with which keys")

    audit = groups.add_parser("audit", help="the audit log").add_subparsers(
        required=True, metavar="DO"
    )
    _command(audit, "verify", audit_verify, "check the chain; names the first damaged row")
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    logging.basicConfig(level=logging.CRITICAL)
    try:
        papita = build(Settings.load())
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        command: Command = args.command
        return command(papita, args)
    except PapitaError as error:
        print(error, file=sys.stderr)
        return 2 if error.status == 422 else 1
    except SQLAlchemyError as error:
        print(f"the database does not answer: {type(error).__name__}", file=sys.stderr)
        return 1
    finally:
        papita.close()


def _command(
    group: argparse._SubParsersAction[Parser],
    name: str,
    command: Command,
    text: str,
) -> argparse.ArgumentParser:
    made = group.add_parser(name, help=text, description=text)
    made.set_defaults(command=command)
    return made


def _password() -> str:
    return sys.stdin.readline(MAX_LENGTH + 2).rstrip("\r\n")


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else moment.isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
