"""`credentials`: keys of users, brought in from files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from papita_core.app import Papita
from papita_core.commands import OPERATOR, Group, add_command, group_of
from papita_core.credential_types import CREDENTIAL_TYPES
from papita_core.errors import InvalidInput
from papita_core.vault.importing import MAX_BYTES, Candidate, read_env
from papita_core.vault.records import NewCredential, TestResult

LEFT_OUT = "left out"


def import_env(papita: Papita, args: argparse.Namespace) -> int:
    """Tests what it recognises and stores, in one go, all that the providers did not reject."""
    found = read_env(_read(args.file))
    known = papita.credentials.known(OPERATOR, found.candidates, username=args.user)
    chosen: list[tuple[Candidate, NewCredential, TestResult | None]] = []
    for place, candidate in enumerate(found.candidates):
        if place in known:
            _say(candidate, "there already")
            continue
        new = candidate.new(args.project)
        try:
            papita.credentials.check(OPERATOR, new)
            result = None if args.untested else papita.credentials.test_secret(OPERATOR, new)
        except InvalidInput as error:
            _say(candidate, f"{LEFT_OUT}: {error}")
            continue
        if result is not None and result.status == "rejected":
            _say(candidate, f"{LEFT_OUT}: {result.detail}")
            continue
        chosen.append((candidate, new, result))
    papita.credentials.create_many(
        OPERATOR,
        [new for _, new, _ in chosen],
        tested=[result for _, _, result in chosen],
        username=args.user,
    )
    for candidate, _, result in chosen:
        _say(candidate, f"stored, {result.status if result else 'untested'}")
    for item in found.skipped:
        print(f"line {item.line}\t{item.name or '-'}\t-\t{LEFT_OUT}: {item.reason}")
    if not found.candidates:
        print("no key was recognised", file=sys.stderr)
    there_already = len(known) == len(found.candidates) > 0
    return 0 if chosen or there_already else 1


def _say(candidate: Candidate, result: str) -> None:
    title = CREDENTIAL_TYPES[candidate.credential_type].title
    print(f"{candidate.label}\t{title}\t{candidate.hint}\t{result}")


def _read(file: str) -> str:
    """The text of a file, or of standard input. Raises `InvalidInput` with a sentence."""
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput({"file": f"The file cannot be read: {error.strerror}."}) from None
    except UnicodeDecodeError:
        # A file that is too large may end in the middle of a character.
        raise InvalidInput(
            {"file": f"This is not UTF-8 text of up to {MAX_BYTES} bytes."}
        ) from None


def register(groups: Group) -> None:
    group = group_of(groups, "credentials", "keys of users")
    new = add_command(group, "import", import_env, "store the keys of a .env file for a user")
    new.add_argument("--user", required=True, help="whose credentials they become")
    new.add_argument("file", metavar="FILE.env", help="a file; - is standard input")
    new.add_argument("--untested", action="store_true", help="do not ask the providers first")
    new.add_argument("--project", metavar="ID", help="for this project alone; default: for all")
