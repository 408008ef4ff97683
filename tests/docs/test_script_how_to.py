"""The script of docs/how-to/use-al-chat-from-a-script.md, run as it stands there."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from demo.provider.scripts import script_for
from tests.docs.scripts import run
from tests.system import KEY, System


def store_a_key(system: System, token: str) -> None:
    body = {
        "credentialType": "openai",
        "baseUrl": f"{system.provider_url}/v1",
        "credentials": {"api_key": KEY},
    }
    request = urllib.request.Request(
        f"{system.url}/api/credentials",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 201


def test_the_script_chats_as_it_is_printed(tmp_path: Path):
    with System(tmp_path) as system:
        system.add_user("ana")
        store_a_key(system, system.access_token("ana", "credentials:write"))
        token = system.access_token("ana", "projects:launch")
        done = run("how-to/use-al-chat-from-a-script.md", system, TOKEN=token)
        asked = system.provider_requests()["total"]
    assert done.returncode == 0, done.stderr + done.stdout
    followed, _, rest = done.stdout.partition("event: run.completed\n")
    again, _, rest = rest.partition("event: run.completed\n")
    assert followed.startswith("id: 1\nevent: run.started\n")
    assert "\nid: 3\n" in again
    assert "id: 2\n" not in again
    assert again.split("\n\n", 1)[1] in followed
    stopped, listed = (json.loads(line) for line in rest.strip().split("\n")[-2:])
    assert stopped["state"] == "cancelled"
    messages = listed["messages"]
    assert [each["role"] for each in messages] == ["user", "assistant"] * 2
    assert messages[1]["content"] == script_for("demo", "How do potatoes grow?").text
    assert messages[3]["run"]["id"] == stopped["id"]
    # Two chat completions, though the first message was sent twice.
    assert asked <= 2
    for secret in (KEY, token):
        assert secret not in done.stdout + done.stderr
