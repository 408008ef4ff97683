"""Traces by OTLP: what stands in them, whom they reach, and that nobody else learns of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from conftest import ScriptedProvider, Service, follow_to_end, text_of, wait_until
from fake_papita import CANARY_KEY, FakePapita
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from alchat_core import telemetry
from alchat_core.client import AlChatClient
from tests.alchat_core.tool_servers import OddServer

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET_WORDS = "the potatoes of grandmother"


class Between:
    """Takes traces, and stands between AL-Chat and everybody whom it asks: `seen` has each path
    with the head and the body of the request.
    """

    def __init__(self, ways: dict[str, str]) -> None:
        between = self
        self.ways = ways
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}
        self.hangs = threading.Event()
        self.over = threading.Event()

        class Handler(_Handler):
            owner = between

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def to(self, path: str) -> list[tuple[dict[str, str], bytes]]:
        return [(head, body) for seen, head, body in self.seen if seen.startswith(path)]

    def named(self, name: str) -> list[Span]:
        return [span for span in tuple(self.spans) if span.name == name]

    def stop(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Between

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/v1/traces":
            if self.owner.hangs.is_set():
                self.owner.over.wait(20)
            self._keep(body)
            self._answer(200, b"", "application/x-protobuf")
            return
        head = {name.lower(): value for name, value in self.headers.items()}
        self.owner.seen.append((self.path, head, body))
        way = next(way for path, way in self.owner.ways.items() if self.path.startswith(path))
        found = requests.request(self.command, way + self.path, headers=head, data=body, timeout=10)
        self._answer(found.status_code, found.content, found.headers.get("Content-Type", ""))

    def do_GET(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def _keep(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.owner.resource |= {
                one.key: one.value.string_value for one in resource.resource.attributes
            }
            for scope in resource.scope_spans:
                self.owner.spans += scope.spans

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def attributes(span: Span) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
        for one in span.attributes
    }


@pytest.fixture
def between(papita: FakePapita, provider: ScriptedProvider) -> Iterator[Between]:
    odd = OddServer()
    running = Between({"/v1": provider.origin, "/mcp": odd.origin, "/api": papita.url})
    yield running
    running.stop()
    odd.stop()


def test_a_run_is_a_trace_that_goes_to_papita_and_to_nobody_else(
    own_service: Callable[..., Service], papita: FakePapita, between: Between
) -> None:
    service = own_service(
        OTEL_EXPORTER_OTLP_ENDPOINT=between.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
        # What FastAPI would send by itself, with what users sent in it, is off in any case.
        FASTAPI_OTEL_AUTO_CONFIGURE="true",
        PAPITA_API_URL=between.url,
        PAPITA_PROVIDER_ALLOWLIST=between.url,
    )
    papita.base_url = between.url + "/v1"
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("traced"))

    def call(method: str, path: str, body: Any, **headers: str) -> Any:
        headers["Authorization"] = f"Bearer {papita.token_for('traced')}"
        answer = requests.request(
            method, service.url + path, json=body, headers=headers, timeout=10
        )
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    tools = call("POST", "/api/tool-servers", {"name": "odd", "url": between.url + "/mcp"})["id"]
    conversation = call("POST", "/api/conversations", {"tools": [tools]})["id"]
    sent = call(
        "POST",
        f"/api/conversations/{conversation}/messages",
        {"content": f'call say {{"text": "{SECRET_WORDS}"}}', "model": "tools"},
        traceparent=f"00-{TRACE}-{PARENT}-01",
    )
    run_id = sent["runId"]
    with user.follow(run_id) as follower:
        events = follower.wait(10)
        while not follower.finished:
            for event in events:
                if event.type == "tool.call":
                    path = f"/api/runs/{run_id}/tool-calls/{event.data['id']}"
                    call("POST", path, {"decision": "once"})
            new = follower.wait(10)
            events = new
    assert events[-1].type == "run.completed"
    usage = events[-1].data["usage"]

    wait_until(lambda: bool(between.named("run")))
    (run,) = between.named("run")
    asked = "POST /api/conversations/{conversation_id}/messages"
    (request,) = [one for one in between.named(asked) if one.trace_id == run.trace_id]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert (request.kind, run.parent_span_id) == (Span.SPAN_KIND_SERVER, request.span_id)
    assert attributes(request)["http.response.status_code"] == 202
    about = attributes(run)
    assert about["alchat.run.id"] == run_id
    assert about["gen_ai.conversation.id"] == conversation
    assert about["alchat.run.outcome"] == "completed"
    assert run.status.code != run.status.STATUS_CODE_ERROR
    assert between.resource["service.name"] == "al-chat"

    (loan,) = [one for one in between.named("loan") if one.trace_id == run.trace_id]
    (tool,) = between.named("execute_tool say")
    chats = between.named("chat tools")
    assert {one.parent_span_id for one in (tool, *chats)} == {run.span_id}
    # The key may be asked for before there is a run.
    assert loan.parent_span_id in (run.span_id, request.span_id)
    assert attributes(loan)["alchat.run.id"] == run_id
    assert attributes(tool)["gen_ai.tool.name"] == "say"
    assert len(chats) == 2
    first = attributes(chats[0])
    assert first["gen_ai.provider.name"] == "openai"
    assert first["gen_ai.request.model"] == "tools"
    assert first["server.address"] == "127.0.0.1"
    assert first["alchat.lease.id"] == attributes(loan)["alchat.lease.id"]
    assert first["gen_ai.response.time_to_first_chunk"] > 0
    told = [attributes(chat)["gen_ai.usage.output_tokens"] for chat in chats]
    assert sum(told) == usage["completionTokens"]
    assert {chat.kind for chat in chats} == {Span.SPAN_KIND_CLIENT}

    # To Papita with the trace, as a part of the loan; to others without.
    (asked,) = [
        one for one in between.named("GET /api/credentials") if one.trace_id == run.trace_id
    ]
    assert asked.parent_span_id == loan.span_id
    heads = [head.get("traceparent") for head, _ in between.to("/api/credentials")]
    assert f"00-{TRACE}-{asked.span_id.hex()}-01" in heads
    others = [*between.to("/v1/"), *between.to("/mcp")]
    assert len(others) >= 5
    for head, body in others:
        assert not {"traceparent", "tracestate", "baggage"} & set(head)
        assert b"traceparent" not in body
        assert TRACE.encode() not in body

    # A failure has its code.
    failed = user.send(user.create_conversation().id, SECRET_WORDS, model="error-quota")
    follow_to_end(user, failed.run_id)
    wait_until(lambda: len(between.named("run")) == 2)
    run = between.named("run")[1]
    assert run.trace_id.hex() != TRACE
    assert attributes(run)["error.type"] == "quota-exceeded"
    assert run.status.code == run.status.STATUS_CODE_ERROR
    (chat,) = between.named("chat error-quota")
    assert attributes(chat)["error.type"] == "quota-exceeded"

    # Nothing that anybody wrote is in any of them.
    whole = b"".join(span.SerializeToString() for span in between.spans)
    for word in (SECRET_WORDS, CANARY_KEY, "results, 0 earlier"):
        assert word.encode() not in whole

    # Answers and the end do not wait for a receiver that hangs.
    between.hangs.set()
    sent = user.send(user.create_conversation().id, "still there", model="echo")
    assert text_of(follow_to_end(user, sent.run_id)) == "still there"
    client.close()
    assert service.stop() == 0


def test_nothing_is_made_or_imported_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    telemetry.start("0")
    assert not telemetry.on()
    assert "alchat_core.telemetry.otlp" not in sys.modules
    with telemetry.span("x", {"a": 1}) as span:
        span.add("b", 2)
        span.fail("c")
        assert telemetry.span("y", kind="client") is span
        span.rename("z")
    telemetry.accept([(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())])
    assert telemetry.passed_on() == {}
    telemetry.stop()


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_the_environment_decides_in_the_names_of_opentelemetry(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: bool
) -> None:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert telemetry.wanted() is wanted


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "alchat_core.telemetry.otlp", None)
    with pytest.raises(telemetry.TelemetryError, match="opentelemetry-sdk and") as missing:
        telemetry.start("0")
    assert "\n" not in str(missing.value)
    assert not telemetry.on()
