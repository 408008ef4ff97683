"""`users`: accounts, invitations, lock-outs, policies."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import timedelta

from papita_core.actors import ROLES
from papita_core.app import Papita
from papita_core.commands import OPERATOR, Group, add_command, group_of, in_short, typed_password
from papita_core.errors import Conflict, InvalidInput
from papita_core.users.directory import MAX_PAGE, STATES, ListedUser, UserFilter
from papita_core.users.limits import Lockout
from papita_core.users.policies import LINK_BY_EMAIL, SECOND_FACTOR, SIGN_UP, VALUES
from papita_core.users.service import NewUser


def add(papita: Papita, args: argparse.Namespace) -> int:
    role = "administrator" if args.admin else args.role
    new = NewUser(args.name, typed_password(), args.display_name, args.email, role)
    user = papita.users.create(OPERATOR, new)
    print(f"added {user.username} ({user.role})")
    return 0


def list_users(papita: Papita, args: argparse.Namespace) -> int:
    wanted = UserFilter(args.search, args.role, args.state)
    for user in _everybody(papita, wanted):
        columns = [user.username, user.role, user.state, user.email or "-"]
        if args.long:
            factor = "second-factor" if user.second_factor else "-"
            asked = "asked-for-reset" if user.reset_asked_at else "-"
            columns += [user.display_name, in_short(user.last_seen_at), factor, asked]
        print("\t".join(columns))
    return 0


def _everybody(papita: Papita, wanted: UserFilter) -> Iterator[ListedUser]:
    cursor = None
    while True:
        page = papita.users.page(OPERATOR, wanted, cursor=cursor, limit=MAX_PAGE)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return


def role(papita: Papita, args: argparse.Namespace) -> int:
    user = papita.users.set_role(OPERATOR, args.name, args.role)
    print(f"{user.username} is {user.role}")
    return 0


def disable(papita: Papita, args: argparse.Namespace) -> int:
    print(f"disabled {papita.users.set_disabled(OPERATOR, args.name, True).username}")
    return 0


def enable(papita: Papita, args: argparse.Namespace) -> int:
    print(f"enabled {papita.users.set_disabled(OPERATOR, args.name, False).username}")
    return 0


def approve(papita: Papita, args: argparse.Namespace) -> int:
    print(f"approved {papita.users.approve(OPERATOR, args.name).username}")
    return 0


def refuse(papita: Papita, args: argparse.Namespace) -> int:
    papita.users.refuse(OPERATOR, args.name)
    print("refused; the account is gone")
    return 0


def sign_out(papita: Papita, args: argparse.Namespace) -> int:
    papita.users.end_sessions(OPERATOR, args.name)
    print("every session of this user has ended")
    return 0


def delete(papita: Papita, args: argparse.Namespace) -> int:
    if not args.yes:
        raise Conflict("This cannot be undone. Say --yes to delete the account and its keys.")
    papita.account.delete(OPERATOR, papita.users.listed(OPERATOR, args.name).id)
    print("deleted, with all keys")
    return 0


def reset_password(papita: Papita, args: argparse.Namespace) -> int:
    papita.users.reset_password(OPERATOR, args.name, typed_password())
    print("the password is set; every session of this user has ended")
    return 0


def reset_link(papita: Papita, args: argparse.Namespace) -> int:
    print(papita.links.reset_link(OPERATOR, args.name).url)
    return 0


def reset_second_factor(papita: Papita, args: argparse.Namespace) -> int:
    papita.factors.reset(OPERATOR, args.name)
    print("the second factors of this user are gone; the password is asked for alone")
    return 0


def invite(papita: Papita, args: argparse.Namespace) -> int:
    link = papita.links.invite(
        OPERATOR,
        role=args.role,
        email=args.email,
        note=args.note,
        lasts=timedelta(hours=args.hours),
    )
    print(link.url)
    return 0


def invitations(papita: Papita, args: argparse.Namespace) -> int:
    if args.revoke:
        papita.links.revoke(OPERATOR, args.revoke)
        print("revoked")
        return 0
    for each in papita.links.invitations(OPERATOR):
        until = in_short(each.expires_at)
        print(f"{each.id}\t{each.role}\t{until}\t{each.email or '-'}\t{each.note or '-'}")
    return 0


def lockouts(papita: Papita, args: argparse.Namespace) -> int:
    found = [it for it in papita.limits.locked(OPERATOR) if args.user in (None, it.username)]
    if args.clear:
        for each in found:
            papita.limits.clear(OPERATOR, key=each.key)
        print(f"cleared {len(found)}")
        return 0
    for each in found:
        print("\t".join(_columns(each)))
    return 0


def _columns(each: Lockout) -> tuple[str, ...]:
    who, where = each.username or "-", each.address or "-"
    return each.kind, who, where, str(each.tries), in_short(each.until)


def policy(papita: Papita, args: argparse.Namespace) -> int:
    if args.value is not None:
        papita.policies.put(OPERATOR, args.name, args.value)
    now = papita.policies.current()
    values = {
        SECOND_FACTOR: now.second_factor,
        SIGN_UP: now.sign_up,
        LINK_BY_EMAIL: "yes" if now.link_by_email else "no",
    }
    if args.name is not None and args.name not in values:
        raise InvalidInput({"name": f"The policies are {', '.join(VALUES)}."})
    for name, value in values.items():
        if args.name in (None, name):
            print(f"{name}\t{value}")
    return 0


def register(groups: Group) -> None:
    group = group_of(groups, "users", "accounts, invitations, lock-outs, policies")
    new = add_command(group, "add", add, "add a user; the password comes on standard input")
    new.add_argument("name")
    which = new.add_mutually_exclusive_group()
    which.add_argument("--admin", action="store_true", help="the same as --role administrator")
    which.add_argument("--role", choices=ROLES, default="member", help="default: member")
    new.add_argument("--email")
    new.add_argument("--display-name", default="")
    new.add_argument("--password-stdin", action="store_true", required=True)
    listing = add_command(group, "list", list_users, "name, role, state and e-mail of each user")
    listing.add_argument("--search", default="", metavar="TEXT", help="in names and e-mails")
    listing.add_argument("--role", choices=ROLES)
    listing.add_argument("--state", choices=STATES)
    listing.add_argument(
        "--long",
        action="store_true",
        help="also the display name, when last seen, and what wants attention",
    )
    for name, command, text in (
        ("disable", disable, "end sessions and leases, and keep the user out"),
        ("enable", enable, "let a disabled user in again"),
        ("approve", approve, "let in a user who has signed up"),
        ("refuse", refuse, "delete a user who has signed up and waits"),
        ("sign-out", sign_out, "end all sessions of a user"),
        ("reset-link", reset_link, "print a link with which the user sets a new password, once"),
        ("reset-second-factor", reset_second_factor, "take away a user's second factors"),
    ):
        add_command(group, name, command, text).add_argument("name")
    change = add_command(group, "role", role, "give a user another role")
    change.add_argument("name")
    change.add_argument("role", choices=ROLES)
    gone = add_command(group, "delete", delete, "delete a user and all keys of theirs")
    gone.add_argument("name")
    gone.add_argument("--yes", action="store_true", help="it cannot be undone")
    reset = add_command(group, "reset-password", reset_password, "set a password")
    reset.add_argument("name")
    reset.add_argument("--password-stdin", action="store_true", required=True)
    _register_links(group)
    locked = add_command(group, "lockouts", lockouts, "what is refused after too many tries")
    locked.add_argument("--user", metavar="NAME", help="of this user alone")
    locked.add_argument("--clear", action="store_true", help="let them try again at once")
    rule = add_command(group, "policy", policy, "show the policies, or set one")
    rule.add_argument("name", nargs="?", help=", ".join(VALUES))
    rule.add_argument("value", nargs="?")


def _register_links(group: Group) -> None:
    new = add_command(group, "invite", invite, "print a link that makes one account, once")
    new.add_argument("--role", choices=ROLES, default="member", help="default: member")
    new.add_argument("--email", default="", help="of whoever is invited")
    new.add_argument("--note", default="", help="for administrators to read")
    new.add_argument("--hours", type=int, default=168, help="1 to 720; default: 168, a week")
    pending = add_command(
        group, "invitations", invitations, "id, role, end, e-mail and note of each"
    )
    pending.add_argument("--revoke", metavar="ID", help="take one back")
