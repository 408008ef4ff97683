"""`python -m papita_core`: what an operator does on the host.

Exit codes: 0 done, 1 the thing asked for is not so, 2 bad arguments or settings. Errors are one
line on standard error.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import closing

from sqlalchemy.exc import SQLAlchemyError

from papita_core import __version__
from papita_core.app import build
from papita_core.commands import (
    Command,
    HostCommand,
    Parser,
    audit,
    backup,
    credentials,
    doctor,
    keys,
    tokens,
    users,
)
from papita_core.errors import PapitaError
from papita_core.settings import Settings, SettingsError

GROUPS = (users, tokens, credentials, keys, audit, backup, doctor)


def parser() -> Parser:
    root = Parser(prog="python -m papita_core", description="Papita on the host.")
    root.add_argument("--version", action="version", version=__version__)
    groups = root.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for group in GROUPS:
        group.register(groups)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    logging.basicConfig(level=logging.CRITICAL)
    try:
        settings = Settings.load()
        if "host_command" in args:
            host_command: HostCommand = args.host_command
            return host_command(settings, args)
        with closing(build(settings)) as papita:
            command: Command = args.command
            return command(papita, args)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except PapitaError as error:
        print(error, file=sys.stderr)
        return 2 if error.status == 422 else 1
    except SQLAlchemyError as error:
        print(f"the database does not answer: {type(error).__name__}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
