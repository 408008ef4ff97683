"""`python -m tests [pytest arguments]`: makes sure that there is a browser, then runs the suite.

Files run in parallel, two workers more than there are cores: much of the time is waiting for a page
or a process. What a file needs is shared by its tests.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.browser_binary import ensure_browser


def main(arguments: list[str]) -> int:
    os.environ["TEST_BROWSER"] = ensure_browser()
    # Every worker reads every test, and many processes are started: compiled once is enough.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    workers = str(min(6, (os.cpu_count() or 2) + 2))
    spread = ["-n", workers, "--dist", "loadfile", "--no-loadscope-reorder"]
    command = [sys.executable, "-m", "pytest", *spread, *arguments]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
