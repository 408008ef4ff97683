"""Runs a script of the documentation word for word, as its reader would."""

from __future__ import annotations

import re
import subprocess

from tests.system import ROOT, System


def script(page: str) -> str:
    """The one block of a page that is marked as `sh`."""
    (found,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)
    return str(found)


def run(page: str, system: System, **variables: str) -> subprocess.CompletedProcess[str]:
    """In bash, which stops where a command fails; `variables` are what the script would ask for."""
    return subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script(page)],
        env={**system.env, "PAPITA": system.url, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
