"""Starts a worker in a process of its own, and ends it.

It gets nothing of the service's environment, where secrets may be, and none of its open files.
Whatever it does - hang, crash, ask for too much - ends it alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import orjson

INSIDE = Path(__file__).with_name("inside.py")


@dataclass(frozen=True, slots=True)
class Limits:
    """`memory` in bytes, `seconds` of processor time, `written` in bytes for each file."""

    memory: int
    seconds: int
    written: int = 0


@contextlib.asynccontextmanager
async def sandboxed(
    worker: Path,
    *arguments: str,
    limits: Limits,
    stdin: IO[bytes] | int = asyncio.subprocess.DEVNULL,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process that runs the script `worker`, with `stdout` to be read; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(INSIDE),
        orjson.dumps(asdict(limits)).decode(),
        str(worker),
        *arguments,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"LANG": "C.UTF-8"},
        cwd=os.sep,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
