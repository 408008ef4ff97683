"""AL-Chat against its own description, by schemathesis, as tests/papita_core/api does for Papita.

The links lead from a conversation over its messages to their runs, whose events end or are cut off
by cancel: every sequence that schemathesis finds is played against a real process.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conftest import ROOT, Service
from fake_papita import FakePapita

EXAMPLES = 8
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
# What a description cannot say: that a message is there, that no answer is being written.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 409, 413, 415, 422, 429]
"""


def test_the_api_keeps_to_its_description(
    own_service: Callable[..., Service], papita: FakePapita, tmp_path: Path
) -> None:
    service = own_service(ALCHAT_DEFAULT_MODEL="echo", ALCHAT_MAX_RUNNING_ANSWERS="1000")
    token = papita.token_for("tester", exp=int(time.time()) + 3600)
    report = tmp_path / "report.json"
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", "--no-color"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--mode", "all"),
            # One worker: with two, ast.parse of CPython 3.11 fails now and then (gh-106905).
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--workers", "1"),
            *("--continue-on-failure", "--warnings", "off"),
            *("--generation-database", "none", "--report-json-path", str(report)),
            *("--header", f"Authorization: Bearer {token}"),
            f"{service.url}/openapi.json",
        ],
        cwd=tmp_path,
        # Each request reads all variables, so there are few. Hypothesis keeps its tables.
        env={
            "PATH": os.environ["PATH"],
            "SCHEMATHESIS_HOOKS": str(HOOKS),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    told = json.loads(report.read_text())
    assert told["phases"]["stateful"]["status"] == "success", done.stdout
    rows = sqlite3.connect(service.database)
    states = {state for (state,) in rows.execute("SELECT state FROM runs")}
    rows.close()
    # The links were followed as far as an answer, and no answer was left behind.
    assert states
    assert not states & {"queued", "running"}
