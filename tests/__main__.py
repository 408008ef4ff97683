"""`python -m tests [pytest arguments]`: makes sure that there is a browser, then runs the suite.

Files run in parallel, one worker more than there are cores: much of the time is waiting for a page
or a process. What a file needs is shared by its tests.

Many processes at work on few cores are slower than some tests allow for. So where a few files have
failed they run once more with nothing beside them, and that counts. It is said which they were.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from tests.browser_binary import ensure_browser

FAILED = 1  # pytest's exit code for tests that failed
MOST_AGAIN = 5  # files


def main(arguments: list[str]) -> int:
    os.environ["TEST_BROWSER"] = ensure_browser()
    # Every worker reads every test, and many processes are started: compiled once is enough.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    workers = str(min(6, (os.cpu_count() or 2) + 1))
    spread = ["-n", workers, "--dist", "loadfile", "--no-loadscope-reorder"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        code = _pytest(*spread, *arguments, f"--junitxml={report}")
        again = _files_that_failed(report) if code == FAILED else []
    if not 0 < len(again) <= MOST_AGAIN:
        return code
    print(f"\nOnce more, with nothing beside them: {' '.join(again)}\n", flush=True)
    return _pytest(*again)


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


def _files_that_failed(report: Path) -> list[str]:
    found = {
        f"{case.get('classname', '').replace('.', '/')}.py"
        for case in ElementTree.parse(report).iter("testcase")  # noqa: S314 - pytest's own words
        if case.find("failure") is not None or case.find("error") is not None
    }
    return sorted(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
