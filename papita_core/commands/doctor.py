"""`doctor`: looks an installation over."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from papita_core.commands import Group, add_host_command
from papita_core.operations.doctor import examine
from papita_core.operations.findings import PROBLEM, Finding
from papita_core.settings import Settings


def doctor(settings: Settings, args: argparse.Namespace) -> int:
    return reported(examine(settings))


def reported(findings: Iterable[Finding]) -> int:
    """Prints a line for each finding; the exit code is 1 if one of them is a problem."""
    code = 0
    for finding in findings:
        print(finding, flush=True)
        code = 1 if finding.level == PROBLEM else code
    return code


def register(groups: Group) -> None:
    add_host_command(groups, "doctor", doctor, "say what is wrong and what to do about it")
