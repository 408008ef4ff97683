"""What a process in the sandbox has, and when it is gone."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from alchat_core.sandbox.process import Limits, sandboxed

LOOK = """
import json, os, resource, sys
import alchat_core
names = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE")
print(json.dumps({
    "limits": [resource.getrlimit(getattr(resource, name)) for name in names],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "arguments": sys.argv[1:],
    "files": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
    "nice": os.nice(0),
}))
"""


def test_a_worker_has_limits_and_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(LOOK)
    monkeypatch.setenv("ALCHAT_CLIENT_SECRET", "secret")

    async def scenario() -> bytes:
        limits = Limits(memory=300 << 20, seconds=3, written=5)
        async with sandboxed(worker, "one", "two", limits=limits) as process:
            printed, _ = await process.communicate()
        assert process.returncode == 0
        return printed

    found = json.loads(asyncio.run(scenario()))
    assert found["limits"] == [[most, most] for most in (300 << 20, 3, 5, 32, 0)]
    assert set(found["environment"]) <= {"LANG", "LC_CTYPE"}
    assert (found["folder"], found["arguments"]) == ("/", ["one", "two"])
    assert found["files"] == ["0", "1", "2"]
    assert found["nice"] > 0


def test_a_worker_ends_with_the_block(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import time\nprint(1, flush=True)\ntime.sleep(60)")

    async def scenario() -> int:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what ends
            async with sandboxed(worker, limits=Limits(300 << 20, 3)) as process:
                assert process.stdout is not None
                await process.stdout.readline()
                raise ZeroDivisionError
        return process.pid

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(scenario()), 0)
