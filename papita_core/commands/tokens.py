"""`tokens`: personal access tokens."""

from __future__ import annotations

import argparse

from papita_core.actors import TOKEN_SCOPES
from papita_core.app import Papita
from papita_core.commands import OPERATOR, Group, add_command, group_of, in_short


def create(papita: Papita, args: argparse.Namespace) -> int:
    new = papita.access_tokens.create(
        OPERATOR,
        name=args.name,
        scopes=tuple(args.scope or TOKEN_SCOPES),
        days=args.expires,
        username=args.user,
    )
    print(new.token)
    return 0


def list_tokens(papita: Papita, args: argparse.Namespace) -> int:
    for token in papita.access_tokens.list(OPERATOR, username=args.user):
        expires, used = in_short(token.expires_at), in_short(token.last_used_at)
        print(f"{token.id}\t{token.name}\t{','.join(token.scopes)}\t{expires}\t{used}")
    return 0


def revoke(papita: Papita, args: argparse.Namespace) -> int:
    papita.access_tokens.revoke(OPERATOR, args.id)
    print("revoked")
    return 0


def register(groups: Group) -> None:
    group = group_of(groups, "tokens", "personal access tokens")
    new = add_command(group, "create", create, "make a token and print it, once")
    new.add_argument("--user", required=True)
    new.add_argument("--name", required=True)
    new.add_argument(
        "--scope", action="append", choices=TOKEN_SCOPES, help="default: all; may be repeated"
    )
    new.add_argument("--expires", type=int, default=90, metavar="DAYS", help="default: 90")
    listing = add_command(group, "list", list_tokens, "id, name, scopes, expiry and last use")
    listing.add_argument("--user", required=True)
    add_command(group, "revoke", revoke, "revoke a token").add_argument("id")
