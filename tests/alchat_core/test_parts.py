"""Parts that need no service: settings, lines, ids, the log of events."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, clean_environment
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select

from alchat_core.client import AlChatClient, Event
from alchat_core.conversations.models import title_from
from alchat_core.credential_manager import Loan
from alchat_core.db.engine import Database
from alchat_core.db.migrate import migrate
from alchat_core.db.tables import conversations, messages, run_events, runs
from alchat_core.errors import RunError
from alchat_core.ids import new_id
from alchat_core.providers.lines import MalformedStreamError, ProviderReportedError, StreamReader
from alchat_core.providers.openai_compatible import Answer, Provider
from alchat_core.runs.events import COMPLETED, Ending
from alchat_core.runs.log import DatabaseLog
from alchat_core.secret import Secret
from alchat_core.settings import Settings, SettingsError, load, origin_of


def run_main(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT), **settings}
    return subprocess.run(
        [sys.executable, "-m", "alchat_core"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALCHAT_PORT", "many"), ("ALCHAT_PROT", "8000"), ("PAPITA_API_ULR", "http://papita")],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path, name: str, value: str) -> None:
    ended = run_main(tmp_path, **{name: value})
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"{name}: ")
    assert ended.stderr.count("\n") == 1


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(("PAPITA_", "ALCHAT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_the_environment_wins_over_the_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "papita.toml").write_text(
        'alchat_port = 8100\nalchat_default_model = "file"\npapita_port = 3001\n'
    )
    environment.setenv("ALCHAT_DEFAULT_MODEL", "environment")
    environment.setenv("ALCHAT_URL", "http://elsewhere:8000")
    environment.setenv("PAPITA_MASTER_KEY_FILE", "/run/secrets/key")
    environment.setenv("PAPITA_PROVIDER_ALLOWLIST", "http://localhost:11434, https://LLM.lan:443")
    settings = load()
    assert (settings.alchat_port, settings.alchat_default_model) == (8100, "environment")
    assert settings.papita_provider_allowlist == ("http://localhost:11434", "https://llm.lan")
    assert settings.client_secret_path == tmp_path / "keys" / "alchat-client-secret"
    assert settings.database == f"sqlite:///{tmp_path}/data/alchat.db"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAPITA_API_URL", "papita"),
        ("PAPITA_PROVIDER_ALLOWLIST", "127.0.0.1:11434"),
        ("ALCHAT_DATABASE_URL", "mysql://x"),
        ("ALCHAT_LOG_LEVEL", "loud"),
        ("ALCHAT_FIRST_TOKEN_TIMEOUT", "0"),
        ("PAPITA_CONFIG", "nowhere.toml"),
    ],
)
def test_malformed_settings_are_named(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load()


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith(".") or field.description.rstrip()[-1].isalnum(), name


@given(st.text(max_size=60))
def test_an_origin_is_an_origin_or_a_value_error(text: str) -> None:
    try:
        origin = origin_of(text)
    except ValueError:
        return
    assert origin_of(origin) == origin


STREAM = (
    b": comment\r\n\r\n"
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}\r\n\r\n'
    b'data:{"choices":[{"delta":{"content":"Gr\xc3\xbc\xc3\x9fe"}}]}\n\n'
    b'event: ping\ndata: {"choices":[]}\n\n'
    b'data: {"choices":[{"delta":{"content":" \xf0\x9f\xa5\x94"},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
    b"data: [DONE]"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_stream_reads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    reader = StreamReader()
    text = ""
    edges = [0, *sorted(cuts), len(STREAM)]
    for begin, end in itertools.pairwise(edges):
        reader.feed(STREAM[begin:end])
        text += reader.take()
    reader.end()
    assert text + reader.take() == "Grüße 🥔"
    assert (reader.done, reader.finish_reason) == (True, "stop")
    assert reader.usage == {"promptTokens": 3, "completionTokens": 2, "totalTokens": 5}


def test_text_before_a_fault_stands() -> None:
    good = b'data: {"choices":[{"delta":{"content":"kept"}}]}\n'
    reader = StreamReader()
    with pytest.raises(MalformedStreamError):
        reader.feed(good + b'data: {"choices\n')
    assert reader.take() == "kept"
    with pytest.raises(ProviderReportedError):
        reader.feed(good + b'data: {"error":{"message":"x"}}\n')
    assert reader.take() == "kept"


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    made = [new_id("msg") for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(len(one) == 30 for one in made)


def test_a_secret_shows_nothing() -> None:
    secret = Secret("sk-very-secret")
    loan = Loan("c", "openai", "l", "https://api.openai.com/v1", secret)
    assert secret.reveal() == "sk-very-secret"
    assert "very" not in f"{secret} {secret!r} {[secret]} {loan!r}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("  How do\n potatoes grow? ", "How do potatoes grow?"),
        ("word " * 40, ("word " * 11).strip() + "…"),
        ("x" * 100, "x" * 59 + "…"),
    ],
)
def test_a_title_is_the_first_words(content: str, title: str) -> None:
    assert title_from(content) == title


def _rows(database: Database, run_ids: list[str]) -> Any:
    async def add() -> None:
        now = 1
        conversation = {
            "id": "c", "owner": "o", "pinned": False, "archived": False, "created_at": now,
            "updated_at": now, "last_message_at": now,
        }  # fmt: skip
        await database.write(lambda c: c.execute(insert(conversations), conversation))
        for run_id in run_ids:
            message = {
                "id": f"m-{run_id}", "conversation_id": "c", "role": "assistant", "content": "",
                "created_at": now,
            }  # fmt: skip
            run = {
                "id": run_id, "owner": "o", "conversation_id": "c", "message_id": f"m-{run_id}",
                "user_message_id": f"m-{run_id}", "state": "completed", "created_at": now,
                "last_event": 0,
            }  # fmt: skip
            await database.write(lambda c, m=message: c.execute(insert(messages), m))
            await database.write(lambda c, r=run: c.execute(insert(runs), r))

    return add()


def _database(tmp_path: Path) -> Database:
    url = f"sqlite:///{tmp_path}/alchat.db"
    migrate(url)
    migrate(url)
    return Database(url)


def test_what_a_follower_sees_is_already_committed(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = _database(tmp_path)
        await _rows(database, ["r"])
        log = DatabaseLog(database, interval=0.01)
        log.start()
        log.open("r", "c", "m-r")
        log.started("r", "model")
        signal = asyncio.Event()
        assert log.watch("r", signal)
        seen = 0
        for number in range(300):
            log.text("r", f"{number} ")
            if number % 7 == 0:
                await asyncio.sleep(0.001)
            for event in await log.read("r", seen):
                seen += 1
                assert event.number == seen
                stored = await database.read(
                    lambda c: c.execute(select(run_events.c.number)).scalars().all()
                )
                assert event.number in stored
        await log.finish("r", Ending(COMPLETED, {"usage": None}))
        events = await log.read("r", 0)
        assert events[-1].terminal
        content = await database.read(lambda c: c.scalar(select(messages.c.content)))
        assert content == "".join(f"{number} " for number in range(300))
        await log.stop()
        await database.close()

    asyncio.run(scenario())


def test_memory_of_a_long_run_is_bounded_and_all_of_it_can_be_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = _database(tmp_path)
        await _rows(database, ["r"])
        log = DatabaseLog(database, interval=0.0)
        log.start()
        log.open("r", "c", "m-r")
        log.started("r", "model")
        for number in range(700):
            log.text("r", "x")
            while (log.last_number("r") or 0) <= number:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await log.finish("r", Ending(COMPLETED, {}))
        channel = log._channels["r"]
        assert len(channel.tail) <= 512
        seen = 0
        while events := await log.read("r", seen, 200):
            assert [event.number for event in events] == list(
                range(seen + 1, seen + len(events) + 1)
            )
            seen = events[-1].number
        assert seen == channel.number
        assert seen > 600
        await log.stop()
        await database.close()

    asyncio.run(scenario())


def test_a_run_whose_rows_are_gone_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = _database(tmp_path)
        await _rows(database, ["r"])
        log = DatabaseLog(database, interval=0.005)
        for run_id in ("gone", "r"):
            log.open(run_id, "c", f"m-{run_id}")
            log.text(run_id, "text")
        log.start()
        async with asyncio.timeout(5):
            await log.finish("gone", Ending(COMPLETED, {}))
            await log.finish("r", Ending(COMPLETED, {}))
        stored = await database.read(
            lambda c: c.execute(select(run_events.c.run_id).distinct()).scalars().all()
        )
        assert stored == ["r"]
        await log.stop()
        await database.close()

    asyncio.run(scenario())


class _OldProvider(BaseHTTPRequestHandler):
    """Rejects `stream_options`, redirects models, and checks that the key comes along."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b"stream_options" in body:
            raw = b'{"error":{"message":"Unknown field: stream_options","type":"invalid"}}'
            self._answer(400, raw)
        elif self.headers["Authorization"] != "Bearer sk-mine":
            self._answer(401, b"{}")
        else:
            raw = b'data: {"choices":[{"delta":{"content":"old"},"finish_reason":"stop"}]}\n\n'
            self._answer(200, raw)

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, status: int, raw: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def test_a_provider_that_rejects_usage_and_one_that_redirects() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _OldProvider)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    origin = f"http://127.0.0.1:{server.server_address[1]}"

    async def scenario() -> None:
        provider = Provider(Settings(papita_provider_allowlist=(origin,)))
        loan = Loan("c", "openai", "l", f"{origin}/v1", Secret("sk-mine"))
        for _ in range(2):
            answer = Answer()
            pieces = [p async for p in provider.stream(loan, "m", [{"role": "user"}], answer)]
            assert pieces == ["old"]
            assert answer.usage is None
        with pytest.raises(RunError) as refused:
            await provider.models(loan)
        assert refused.value.code == "bad-request"
        assert "redirect" in refused.value.message
        other = Loan("c", "openai", "l", f"{origin}/v1", Secret("sk-other"))
        with pytest.raises(RunError) as refused:
            _ = [p async for p in provider.stream(other, "m", [{"role": "user"}], Answer())]
        assert refused.value.code == "credential-rejected"
        await provider.close()

    try:
        asyncio.run(scenario())
    finally:
        server.shutdown()
        server.server_close()


def test_the_client_does_not_import_the_service() -> None:
    code = (
        "import sys, alchat_core.client\n"
        "bad = {'sqlalchemy', 'openai', 'fastapi', 'alembic', 'pydantic'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=30)


def test_a_client_without_a_service_says_so() -> None:
    client = AlChatClient("http://127.0.0.1:9")
    assert client.health().state == "unreachable"
    client.close()


def test_an_event_knows_whether_it_is_the_last() -> None:
    assert Event(1, "run.cancelled", {}).terminal
    assert not Event(1, "text.delta", {}).terminal
