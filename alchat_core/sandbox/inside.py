"""Limits the process that it runs in, then becomes a worker: `inside.py LIMITS WORKER ARGUMENT …`.

`LIMITS` are JSON: `memory` in bytes, `seconds` of processor time, `written` in bytes for each file.
Nothing else is imported before they hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import runpy
import sys

OPEN_FILES = 32


def limit(memory: int, seconds: int, written: int) -> None:
    os.nice(10)
    for name, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(name)
        most = int(most) if hard == resource.RLIM_INFINITY else min(most, hard)
        # macOS knows no limit on memory; the others hold there, too.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(name, (most, most))


if __name__ == "__main__":
    _, given, worker, *arguments = sys.argv
    limit(**json.loads(given))
    # Isolated as it is, this interpreter does not find our package.
    sys.path.insert(0, os.path.realpath(f"{__file__}/../../.."))
    sys.argv = [worker, *arguments]
    runpy.run_path(worker, run_name="__main__")
