"""The commands of `python -m papita_core`, one module for each group.

A module has `register(groups)`, which adds its commands. A command gets the open services and the
parsed arguments, prints what was asked for and returns the exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn, TypeAlias

from papita_core.actors import Actor
from papita_core.app import Papita
from papita_core.settings import Settings
from papita_core.users.passwords import MAX_LENGTH

OPERATOR = Actor.operator()
Command = Callable[[Papita, argparse.Namespace], int]
HostCommand = Callable[[Settings, argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, and which help to read."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized"):
            # Not repeated: somebody may have typed a password there.
            message = "there are arguments too many"
        self.exit(2, f"{self.prog}: {message}; see --help\n")


Group: TypeAlias = "argparse._SubParsersAction[Parser]"


def group_of(groups: Group, name: str, text: str) -> Group:
    """A group of commands, for example `users`."""
    return groups.add_parser(name, help=text).add_subparsers(required=True, metavar="DO")


def add_command(
    group: Group,
    name: str,
    command: Command,
    text: str,
) -> argparse.ArgumentParser:
    made = group.add_parser(name, help=text, description=text)
    made.set_defaults(command=command)
    return made


def add_host_command(
    group: Group,
    name: str,
    command: HostCommand,
    text: str,
) -> argparse.ArgumentParser:
    """A command that gets the settings alone: nothing is migrated, opened or generated for it."""
    made = group.add_parser(name, help=text, description=text)
    made.set_defaults(host_command=command)
    return made


def typed_password() -> str:
    """One line of standard input."""
    return sys.stdin.readline(MAX_LENGTH + 2).rstrip("\r\n")


def in_short(moment: datetime | None) -> str:
    return "-" if moment is None else moment.isoformat(timespec="seconds")
