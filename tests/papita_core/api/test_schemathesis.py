"""The API of a real portal against its own description, by schemathesis.

Valid and invalid requests, one by one and in sequences along the links: no answer is a 5xx that is
not declared, each has a status, a media type and a body that the description knows, what violates
the description is refused, and no route answers without a caller.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.system import ROOT, System

EXAMPLES = 8
# What a description cannot say: that a type exists, that a time has not passed.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 401, 403, 404, 409, 412, 422, 429, 503]
[checks.missing_required_header]
expected-statuses = [400, 401, 403, 422, 428]
"""


def test_the_api_keeps_to_its_description(tmp_path: Path):
    report = tmp_path / "report.json"
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    with System(tmp_path / "system") as system:
        system.add_user("ana", admin=True)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
                *("run", "--no-color"),
                *("--phases", "examples,coverage,fuzzing,stateful", "--mode", "all"),
                *("--max-examples", str(EXAMPLES), "--seed", "1", "--workers", "2"),
                *("--continue-on-failure", "--warnings", "off"),
                *("--generation-database", "none", "--report-json-path", str(report)),
                *("--header", f"Authorization: Bearer {system.access_token('ana')}"),
                f"{system.url}/api/openapi.json",
            ],
            cwd=tmp_path,
            # Each request reads all variables, so there are few. Hypothesis keeps its tables.
            env={
                "PATH": os.environ["PATH"],
                "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
        told = json.loads(report.read_text())
    assert told, done.stdout
