"""Answers from OpenAI-compatible servers of others: LiteLLM's proxy and MockLLM, as processes.

They have an environment of their own (requirements-servers.txt), since they want other versions of
what this project uses.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from conftest import (
    ROOT,
    ScriptedProvider,
    Service,
    ask,
    clean_environment,
    follow_to_end,
    free_port,
    text_of,
)
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, UserClient
from demo.provider.scripts import script_for
from tests.alchat_core.starter import Starter

SERVERS = Path(os.environ.get("TEST_SERVERS", ROOT / ".venv" / "servers")) / "bin"
KEY = "sk-litellm-of-the-tests"
WORDS = "It answers in Ümläuten, word by word, and ends here."
LITELLM = f"""
model_list:
  - model_name: spoken
    litellm_params: {{model: openai/spoken, api_key: none, mock_response: "{WORDS}"}}
  - model_name: too-many
    litellm_params:
      {{model: openai/too-many, api_key: none, mock_response: "litellm.RateLimitError"}}
  - model_name: too-long
    litellm_params:
      {{model: openai/too-long, api_key: none, mock_response: "litellm.ContextWindowExceededError"}}
  - model_name: handed-on
    litellm_params: {{model: openai/o3-thinking, api_base: "UPSTREAM", api_key: sk-demo-x}}
  - model_name: translated
    litellm_params: {{model: deepseek/thinking, api_base: "UPSTREAM", api_key: sk-demo-x}}
  - model_name: too-many-upstream
    litellm_params: {{model: openai/error-429, api_base: "UPSTREAM", api_key: sk-demo-x}}
  - model_name: broken
    litellm_params:
      {{model: openai/broken, api_key: none, mock_response: "litellm.InternalServerError"}}
general_settings: {{master_key: {KEY}}}
litellm_settings: {{num_retries: 0}}
router_settings: {{disable_cooldowns: true, num_retries: 0}}
"""
# What its own command does. A third of its start would be spent looking for garbage.
RUN_LITELLM = "import gc; gc.disable(); from litellm import run_server; run_server()"
MOCKLLM = f"""
responses: {{}}
defaults: {{unknown_response: "{WORDS}"}}
"""


@contextmanager
def server(folder: Path, command: list[str], health: str, port: int, **env: str) -> Iterator[str]:
    """The origin of a server that answers at `health`; stopped at the end."""
    origin = f"http://127.0.0.1:{port}"
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(SERVERS / command[0]), *command[1:]],
            cwd=folder,
            env={**clean_environment(), "HOME": str(folder), **env},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if requests.get(origin + health, timeout=5).status_code < 500:
                    break
            except requests.RequestException:
                pass
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield origin
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory, provider: ScriptedProvider) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("litellm"), free_port()
    config = LITELLM.replace("UPSTREAM", provider.base_url)
    (folder / "config.yaml").write_text(config, "utf-8")
    options = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    command = ["python", "-c", RUN_LITELLM, *options]
    # The list of prices comes with the package; nothing is fetched.
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with server(folder, command, "/health/liveliness", port, **offline) as origin:
        yield origin


@pytest.fixture(scope="module")
def mockllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("mockllm"), free_port()
    (folder / "responses.yml").write_text(MOCKLLM, "utf-8")
    command = ["python", "-m", "uvicorn", "mockllm.server:app", "--port", str(port)]
    responses = {"MOCKLLM_RESPONSES_FILE": str(folder / "responses.yml")}
    with server(folder, command, "/openapi.json", port, **responses) as origin:
        yield origin


def by_name(origin: str) -> str:
    """The same server, which is asked by the Responses API there."""
    return origin.replace("127.0.0.1", "localhost")


@contextmanager
def chatting(
    folder: Path, papita: FakePapita, origin: str, key: str, starter: Starter
) -> Iterator[UserClient]:
    papita.base_url, papita.api_key = f"{origin}/v1", key
    service = Service(
        folder,
        papita.url,
        f"{origin},{by_name(origin)}",
        starter,
        ALCHAT_RESPONSES_ORIGINS=by_name(origin),
    )
    service.start()
    client = AlChatClient(service.url)
    try:
        yield client.as_user(lambda: papita.token_for("reader"))
    finally:
        client.close()
        assert service.stop() == 0


def test_litellm_lists_answers_and_refuses(
    papita: FakePapita, litellm: str, tmp_path: Path, starter: Starter
):
    with chatting(tmp_path, papita, litellm, KEY, starter) as user:
        assert {"spoken", "too-many", "too-long", "broken", "translated"} < set(user.models())

        events = ask(user, "spoken")
        assert (text_of(events), events[-1].type) == (WORDS, "run.completed")
        usage = events[-1].data["usage"]
        assert usage["totalTokens"] == usage["promptTokens"] + usage["completionTokens"] > 0

        codes = {model: ask(user, model)[-1].data["code"] for model in ("too-many", "too-long")}
        assert codes == {"too-many": "rate-limited", "too-long": "context-too-long"}
        assert ask(user, "broken")[-1].data["code"] == "provider-error"
        assert ask(user, "no-such-model")[-1].data["code"] == "model-not-found"

        # The Responses API: once as another server hands it on, once made of a chat completion.
        papita.base_url = by_name(litellm) + "/v1"
        for model in ("handed-on", "translated"):
            events = ask(user, model)
            assert (text_of(events), events[-1].type) == (
                script_for("thinking").text,
                "run.completed",
            )
            usage = events[-1].data["usage"]
            assert usage["totalTokens"] == usage["promptTokens"] + usage["completionTokens"] > 40
        thoughts = [event.data["text"] for event in events if event.type == "reasoning.delta"]
        assert "".join(thoughts) == "".join(script_for("thinking").thoughts)
        assert ask(user, "too-many-upstream")[-1].data["code"] == "rate-limited"
        assert ask(user, "no-such-model")[-1].data["code"] == "model-not-found"


def test_litellm_reads_the_conversation_so_far(
    papita: FakePapita, litellm: str, tmp_path: Path, starter: Starter
):
    with chatting(tmp_path, papita, litellm, KEY, starter) as user:
        conversation = user.create_conversation()
        used = []
        for content in ("One.", "And two."):
            sent = user.send(conversation.id, content, model="spoken")
            used.append(follow_to_end(user, sent.run_id)[-1].data["usage"]["promptTokens"])
        assert used[1] > used[0]


def test_mockllm_which_lists_no_models_and_counts_no_tokens(
    papita: FakePapita, mockllm: str, tmp_path: Path, starter: Starter
):
    with chatting(tmp_path, papita, mockllm, "sk-of-no-use", starter) as user:
        events = ask(user, "gpt-4", "say it")
        assert (text_of(events), events[-1].type) == (WORDS, "run.completed")
        assert events[-1].data["usage"] is None
        # Without a list of models there is none to take by itself, and the user is told so.
        failed = follow_to_end(user, user.send(user.create_conversation().id, "say it").run_id)
        assert (failed[-1].type, failed[-1].data["code"]) == ("run.failed", "model-not-found")
