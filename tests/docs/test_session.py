"""The session with curl in docs/api.md, run as it stands there against a real portal."""

from __future__ import annotations

import json
from pathlib import Path

from tests.docs.scripts import run
from tests.system import KEY, System


def test_the_session_with_curl_runs_as_it_is_printed(tmp_path: Path):
    with System(tmp_path) as system:
        system.add_user("ana")
        done = run(
            "api.md",
            system,
            TOKEN=system.access_token("ana"),
            OPENAI_API_KEY=KEY,
            BASE_URL=f"{system.provider_url}/v1",
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
