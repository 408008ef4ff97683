"""The scripted provider as its users meet it: a process of its own, over HTTP."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from demo.provider.answers import answer_to
from demo.provider.recordings import HEARING_MODEL, HEARING_PREFIX
from demo.provider.scripts import PLEASANT_MODELS, script_for, words
from tests.recordings import recording

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-demo-canary-0123456789"


@dataclass(frozen=True)
class Running:
    base: str

    @property
    def root(self) -> str:
        return self.base.removesuffix("/v1")

    def chat(self, model: str, *, stream: bool = True, **more: Any) -> requests.Response:
        question = more.pop("question", "hello potato")
        key = more.pop("key", KEY)
        return requests.post(
            f"{self.base}/chat/completions",
            headers={"Authorization": f"Bearer {key}"},
            json={
                "model": model,
                "stream": stream,
                "messages": [{"role": "user", "content": question}],
                **more,
            },
            stream=stream,
            timeout=10,
        )

    def ledger(self) -> dict[str, Any]:
        return requests.get(f"{self.root}/_demo/requests", timeout=5).json()

    def latest(self, model: str) -> dict[str, Any]:
        return next(c for c in reversed(self.ledger()["recent"]) if c["model"] == model)

    def behave(self, **wanted: bool) -> dict[str, bool]:
        answer = requests.post(f"{self.root}/_demo/behaviour", json=wanted, timeout=5)
        assert answer.status_code == 200
        return answer.json()


def start() -> tuple[subprocess.Popen[str], Running]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "demo.provider", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r"http://127\.0\.0\.1:\d+/v1", line)
    assert match, line
    return process, Running(match[0])


@pytest.fixture(scope="module")
def provider() -> Iterator[Running]:
    process, running = start()
    with process:
        yield running
        process.terminate()
        assert process.wait(15) == 0


def chunks(response: requests.Response) -> list[dict[str, Any]]:
    return [
        json.loads(line[6:])
        for line in response.iter_lines()
        if line.startswith(b"data: ") and line != b"data: [DONE]"
    ]


def text(parts: list[dict[str, Any]]) -> str:
    return "".join(p["choices"][0]["delta"].get("content", "") for p in parts if p["choices"])


def drain(parts: Iterator[bytes], into: bytearray) -> None:
    for part in parts:
        into += part


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_models_lists_the_pleasant_ones(provider: Running) -> None:
    client = openai.OpenAI(base_url=provider.base, api_key=KEY)
    with client:
        assert [model.id for model in client.models.list()] == list(PLEASANT_MODELS)
        assert client.models.retrieve("stream-5-0").id == "stream-5-0"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-99")


def test_recordings_are_measured_and_can_fail(provider: Running) -> None:
    client = openai.OpenAI(base_url=provider.base, api_key=f"{HEARING_PREFIX}1", max_retries=0)
    with client:
        assert [model.id for model in client.models.list()] == [*PLEASANT_MODELS, HEARING_MODEL]
        hear = client.audio.transcriptions.create
        file = ("a.wav", recording(1.5))
        assert hear(model=HEARING_MODEL, file=file).text == "I heard 1.5 seconds of WAV."
        other = hear(model="whisper-no-usage", file=("a.webm", b"12345"), language="de")
        assert (other.text, other.usage) == ("I heard a recording of 5 bytes of WEBM in de.", None)
        with pytest.raises(openai.InternalServerError):
            hear(model="whisper-flaky-1-503", file=file)
        assert hear(model="whisper-flaky-1-503", file=file).text
        for model in ("demo", "whisper-gpt-99"):
            with pytest.raises(openai.NotFoundError):
                hear(model=model, file=file)


@pytest.mark.parametrize("key", ["sk-live-secret-value", "", "sk-dem"])
def test_other_keys_are_refused_and_not_repeated(provider: Running, key: str) -> None:
    answer = provider.chat("echo", key=key)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert not key or key not in answer.text


def test_a_stream_has_role_tokens_finish_usage_and_done(provider: Running) -> None:
    with provider.chat("stream-130-0", stream_options={"include_usage": True}) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        body = answer.content.decode()
    assert body.endswith("data: [DONE]\n\n")
    parts = [json.loads(p[6:]) for p in body.strip().split("\n\n")[:-1]]
    assert parts[0]["choices"][0]["delta"]["role"] == "assistant"
    assert text(parts) == script_for("stream-130-0").text
    assert parts[-2]["choices"][0]["finish_reason"] == "stop"
    assert parts[-1]["choices"] == []
    assert parts[-1]["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 130,
        "total_tokens": 132,
    }
    assert all(part["usage"] is None for part in parts[:-1])


def test_usage_comes_only_when_asked_for(provider: Running) -> None:
    assert all("usage" not in part for part in chunks(provider.chat("stream-5-0")))


def test_the_openai_sdk_reads_it(provider: Running) -> None:
    with openai.OpenAI(base_url=provider.base, api_key=KEY) as client:
        whole = client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "one  two\nthree"}]
        )
        assert whole.choices[0].message.content == "one  two\nthree"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 3
        with client.chat.completions.create(
            model="split", messages=[{"role": "user", "content": "x"}], stream=True
        ) as stream:
            got = "".join(part.choices[0].delta.content or "" for part in stream)
    assert got == script_for("split").text


def test_words_come_in_paragraphs_of_sixty() -> None:
    paragraphs = "".join(words(150)).split("\n\n")
    assert [len(paragraph.split()) for paragraph in paragraphs] == [60, 60, 30]
    assert all(paragraph.endswith(".") for paragraph in paragraphs)


def test_tokens_keep_to_the_clock(provider: Running) -> None:
    takes = []
    for _ in range(5):  # what else the machine does can only make it slower
        begin = time.monotonic()
        with provider.chat("stream-50-10") as answer:
            times = [
                time.monotonic() - begin
                for line in answer.iter_lines(chunk_size=1)
                if b'"content":"' in line
            ][1:]
        assert len(times) == 50
        assert times[-1] >= 0.48
        takes.append((times[-1], times[0]))
    total, first = min(takes)
    assert first < 0.2
    assert total < 0.75


def test_demo_takes_the_question_up(provider: Running) -> None:
    question = "Which SQL query counts potatoes?"
    body = provider.chat("demo-fast", stream=False, question=question).json()
    answer = body["choices"][0]["message"]["content"]
    assert answer == answer_to(question)
    assert answer.startswith("## Which SQL query counts potatoes\n")
    assert "\n1. " in answer
    assert "| potatoes | 8 | 1 |" in answer
    assert "```sql\n" in answer
    assert "```python\n" in answer_to("hello")
    assert answer_to("") != answer_to("hello") != answer_to("<script>*x*</script>")


@pytest.mark.parametrize(
    ("model", "status", "code", "retry_after"),
    [
        ("error-401", 401, "invalid_api_key", None),
        ("error-403", 403, "unsupported_country_region_territory", None),
        ("error-429", 429, "rate_limit_exceeded", "7"),
        ("error-429-1", 429, "rate_limit_exceeded", "1"),
        ("error-quota", 429, "insufficient_quota", None),
        ("error-500", 500, None, None),
        ("error-503", 503, None, None),
        ("error-context", 400, "context_length_exceeded", None),
        ("error-filter", 400, "content_filter", None),
        ("error-bad-request", 400, "unsupported_value", None),
        ("gpt-99", 404, "model_not_found", None),
    ],
)
def test_errors_have_the_shape_of_openai(
    provider: Running, model: str, status: int, code: str | None, retry_after: str | None
) -> None:
    for stream in (True, False):
        answer = provider.chat(model, stream=stream)
        assert answer.status_code == status
        assert answer.headers.get("Retry-After") == retry_after
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == code
        assert provider.latest(model)["state"] == "refused"


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"model": "echo"}'])
def test_a_request_without_sense_is_400(provider: Running, body: bytes) -> None:
    answer = requests.post(
        f"{provider.base}/chat/completions",
        headers={"Authorization": f"Bearer {KEY}"},
        data=body,
        timeout=5,
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("model", ["cut-7", "reset-7"])
def test_a_cut_stream_loses_the_connection_after_its_tokens(provider: Running, model: str) -> None:
    got = bytearray()
    with (
        provider.chat(model) as answer,
        pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)),
    ):
        drain(answer.iter_content(None), got)
    assert got.count(b'"content":"') == 8
    assert b'finish_reason":"' not in got
    eventually(lambda: provider.latest(model)["state"] == "broken-off")


def test_malformed_breaks_one_chunk_and_goes_on(provider: Running) -> None:
    good, bad = [], 0
    for line in provider.chat("malformed").iter_lines():
        if line.startswith(b"data: {"):
            try:
                good.append(json.loads(line[6:]))
            except json.JSONDecodeError:
                bad += 1
    assert bad == 1
    assert text(good) == script_for("malformed").text


def test_variants_of_the_framing(provider: Running) -> None:
    crlf = provider.chat("crlf").content
    assert crlf.count(b"\n") == crlf.count(b"\r\n") > 40
    assert b"[DONE]" not in provider.chat("no-done").content
    assert provider.chat("comments").content.count(b"\n: ") >= 8
    wanted = {"include_usage": True}
    assert b'"usage"' not in provider.chat("no-usage", stream_options=wanted).content
    assert text(chunks(provider.chat("empty"))) == ""


def test_endings_in_mid_stream(provider: Running) -> None:
    *parts, error = chunks(provider.chat("error-midstream"))
    assert len(text(parts).split()) == 20
    assert error["error"]["type"] == "server_error"
    assert chunks(provider.chat("filter-midstream"))[-1]["choices"][0]["finish_reason"] == (
        "content_filter"
    )
    short = chunks(provider.chat("stream-50-0", max_completion_tokens=5))
    assert len(text(short).split()) == 5
    assert short[-1]["choices"][0]["finish_reason"] == "length"


def test_slow_first_waits_before_anything(provider: Running) -> None:
    begin = time.monotonic()
    answer = provider.chat("slow-first-300")
    assert time.monotonic() - begin > 0.29
    assert text(chunks(answer)) == script_for("slow-first-300").text


@pytest.mark.parametrize("model", ["hang", "stall-3", "stream-1000-50"])
def test_a_client_that_leaves_is_noticed(provider: Running, model: str) -> None:
    before = provider.ledger()
    if model == "hang":
        with pytest.raises(requests.ReadTimeout):
            requests.post(
                f"{provider.base}/chat/completions",
                headers={"Authorization": f"Bearer {KEY}"},
                json={"model": model, "messages": [{"role": "user", "content": "x"}]},
                timeout=0.2,
            )
    else:
        with provider.chat(model) as answer:
            reader = answer.iter_content(1)
            next(reader)
            assert provider.ledger()["openStreams"] == before["openStreams"] + 1
    eventually(lambda: provider.latest(model)["state"] == "closed-by-client")
    after = provider.ledger()
    assert after["closedByClient"] == before["closedByClient"] + 1
    assert after["open"] == before["open"]


def test_down_and_up_again(provider: Running) -> None:
    with provider.chat("stream-1000-20") as open_stream:
        reader = open_stream.iter_content(1)
        next(reader)
        try:
            assert provider.behave(down=True) == {"down": True, "rejectKeys": False}
            with pytest.raises(requests.ConnectionError):
                provider.chat("echo")
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                drain(reader, bytearray())
        finally:
            provider.behave(down=False)
    assert text(chunks(provider.chat("echo"))) == "hello potato"


def test_reject_keys(provider: Running) -> None:
    try:
        provider.behave(rejectKeys=True)
        assert provider.chat("echo").status_code == 401
    finally:
        provider.behave(rejectKeys=False)
    assert provider.chat("echo").status_code == 200


def test_behaviour_refuses_what_it_does_not_know(provider: Running) -> None:
    answer = requests.post(f"{provider.root}/_demo/behaviour", json={"dwon": True}, timeout=5)
    assert answer.status_code == 400


def test_the_key_is_shown_nowhere(provider: Running) -> None:
    provider.chat("echo")
    assert "canary" not in json.dumps(provider.ledger())


def test_a_hundred_streams_run_side_by_side(provider: Running) -> None:
    load = subprocess.run(
        [sys.executable, "-c", _LOAD, provider.base, KEY],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    wall, durations, tokens = json.loads(load.stdout)
    assert tokens == 100 * 100
    assert sum(durations) > 50 * wall, "on average fewer than fifty were open at once"


_LOAD = """
import asyncio, json, sys, time, aiohttp
async def one(session, base, key):
    begin, got = time.monotonic(), b""
    messages = [{"role": "user", "content": "x"}]
    body = {"model": "stream-100-10", "stream": True, "messages": messages}
    headers = {"Authorization": "Bearer " + key}
    async with session.post(base + "/chat/completions", json=body, headers=headers) as answer:
        async for part in answer.content.iter_any():
            got += part
    return time.monotonic() - begin, got.count(b'"content":"') - 1
async def main(base, key):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await one(session, base, key)
        begin = time.monotonic()
        all_of_them = await asyncio.gather(*(one(session, base, key) for _ in range(100)))
        durations, counts = zip(*all_of_them)
        print(json.dumps([time.monotonic() - begin, durations, sum(counts)]))
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_in_mid_stream(number: signal.Signals) -> None:
    process, running = start()
    with process, running.chat("stream-1000-20") as answer:
        reader = answer.iter_content(1)
        next(reader)
        process.send_signal(number)
        assert process.wait(8) == 0  # the rest of the stream would take twenty seconds


def test_a_taken_port_is_one_line_on_standard_error(provider: Running) -> None:
    port = provider.root.rpartition(":")[2]
    again = subprocess.run(
        [sys.executable, "-m", "demo.provider", "--port", port],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert again.returncode == 1
    assert len(again.stderr.splitlines()) == 1


def test_every_documented_model_exists_and_every_model_is_documented() -> None:
    readme = (ROOT / "demo" / "README.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9<>-]+)` \|", readme, re.MULTILINE)
    names = {re.sub(r"<\w+>", "5", name) for name in rows}
    for name in names:
        assert script_for(name)
    from demo.provider import scripts

    assert set(scripts._FIXED) <= names
    assert set(PLEASANT_MODELS) <= names
    assert all(any(p.fullmatch(name) for name in names) for p, _ in scripts._PATTERNS)
