"""The session with curl in docs/api.md, run as it stands there against a real portal."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.system import KEY, ROOT, System


def script() -> str:
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    found = re.search(r"### A session with curl\n.*?```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_session_with_curl_runs_as_it_is_printed(tmp_path: Path):
    with System(tmp_path) as system:
        system.add_user("ana")
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", script()],
            env={
                **system.env,
                "PAPITA": system.url,
                "TOKEN": system.access_token("ana"),
                "OPENAI_API_KEY": KEY,
                "BASE_URL": f"{system.provider_url}/v1",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    tested, listed, which, renamed, too_late, deleted = done.stdout.strip().split("\n")
    assert json.loads(tested)["status"] == "ok"
    assert [each["label"] for each in json.loads(listed)["credentials"]] == ["From curl"]
    assert json.loads(which)["credential"]["label"] == "From curl"
    assert json.loads(renamed)["credentials"]["label"] == "Renamed"
    assert json.loads(too_late)["code"] == "precondition-failed"
    assert deleted == "204"
    assert KEY not in done.stdout + done.stderr
