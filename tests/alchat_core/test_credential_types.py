"""Credentials of any type that speaks the OpenAI protocol: what their provider is sent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import Service, ask, text_of
from fake_papita import FakePapita

from alchat_core.client import AlChatClient
from alchat_core.credential_manager import NO_BASE_URL, Loan
from alchat_core.errors import RunError
from alchat_core.providers.openai_compatible import Answer, Provider
from alchat_core.secret import Secret
from alchat_core.settings import Settings

KEY = "key-of-this-test"


class NotingProvider:
    """Answers every chat with one word, and notes the headers of each request by its path."""

    def __init__(self) -> None:
        self.headers: dict[str, dict[str, str]] = {}
        self.refusal: tuple[int, Any] | None = None
        noting = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._note(b'{"data":[{"id":"some-model"}]}')

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._note(
                    b'data: {"choices":[{"delta":{"content":"word"},"finish_reason":"stop"}]}\n\n'
                )

            def _note(self, raw: bytes) -> None:
                found = {name.lower(): value for name, value in self.headers.items()}
                noting.headers[self.path] = found
                status = 200
                if noting.refusal is not None:
                    status, raw = noting.refusal[0], json.dumps(noting.refusal[1]).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def noting() -> Iterator[NotingProvider]:
    running = NotingProvider()
    yield running
    running.close()


def ask_both(noting: NotingProvider, loan: Loan) -> tuple[tuple[str, ...], str]:
    """The models and an answer for this loan."""

    async def scenario() -> tuple[tuple[str, ...], str]:
        provider = Provider(Settings(papita_provider_allowlist=(noting.origin,)))
        try:
            models = await provider.models(loan)
            pieces = provider.stream(loan, "m", [{"role": "user", "content": "x"}], Answer())
            return models, "".join([piece async for piece in pieces])
        finally:
            await provider.close()

    return asyncio.run(scenario())


BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("kind", "chat", "models"),
    [
        ("openai", BEARER, BEARER),
        ("openrouter", BEARER, BEARER),
        ("groq", BEARER, BEARER),
        ("google", BEARER, BEARER),
        ("a-type-of-tomorrow", BEARER, BEARER),
        ("azure-openai", {"api-key": KEY}, {"api-key": KEY}),
        ("anthropic", BEARER, {"x-api-key": KEY, "anthropic-version": "2023-06-01"}),
    ],
)
def test_the_key_goes_where_the_type_wants_it_and_nowhere_else(
    noting: NotingProvider, kind: str, chat: dict[str, str], models: dict[str, str]
) -> None:
    loan = Loan("c", kind, "l", f"{noting.origin}/v1", Secret(KEY))
    assert ask_both(noting, loan) == (("some-model",), "word")
    for path, wanted in (("/v1/chat/completions", chat), ("/v1/models", models)):
        sent = noting.headers[path]
        assert {name: sent.get(name) for name in wanted} == wanted
        with_key = {name for name, value in sent.items() if KEY in value}
        assert with_key == {name for name, value in wanted.items() if KEY in value}
        assert not {"openai-organization", "openai-project"} & set(sent)


def test_a_local_server_without_a_key_gets_none(noting: NotingProvider) -> None:
    loan = Loan("c", "ollama", "l", f"{noting.origin}/v1", None)
    assert ask_both(noting, loan) == (("some-model",), "word")
    for sent in noting.headers.values():
        assert not {"authorization", "api-key", "x-api-key"} & set(sent)


def test_organization_and_project_go_along_with_their_own_key(noting: NotingProvider) -> None:
    base = f"{noting.origin}/v1"
    ask_both(noting, Loan("c", "openai", "l", base, Secret(KEY), "org-1", "proj-1"))
    sent = noting.headers["/v1/chat/completions"]
    assert (sent["openai-organization"], sent["openai-project"]) == ("org-1", "proj-1")
    ask_both(noting, Loan("c", "openai", "l", base, Secret(KEY), "org-2"))
    sent = noting.headers["/v1/chat/completions"]
    assert sent["openai-organization"] == "org-2"
    assert "openai-project" not in sent


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"error": {"message": "x"}}),
        (403, {}),
        (400, [{"error": {"code": 400, "message": "API key not valid. Pass a valid API key."}}]),
        (400, {"code": "x", "error": "Incorrect API key provided"}),
        (400, {"error": {"message": "Incorrect API key provided: xai"}}),
    ],
)
def test_a_rejected_key_is_told_from_a_bad_request(
    noting: NotingProvider, status: int, body: Any
) -> None:
    noting.refusal = (status, body)
    with pytest.raises(RunError) as refused:
        ask_both(noting, Loan("c", "google", "l", f"{noting.origin}/v1", Secret(KEY)))
    assert refused.value.code == "credential-rejected"


def test_all_of_it_through_the_service(
    noting: NotingProvider, own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service(PAPITA_PROVIDER_ALLOWLIST=noting.origin)
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("ann"))
    papita.base_url, papita.credential_type = f"{noting.origin}/v1/", "ollama"
    papita.fields = {}
    events = ask(user, "m")
    assert text_of(events) == "word"
    assert "authorization" not in noting.headers["/v1/chat/completions"]
    papita.fields = {"api_key": KEY, "organization": "org-1", "project": None}
    assert user.models() == ("some-model",)
    assert noting.headers["/v1/models"]["openai-organization"] == "org-1"

    papita.base_url = None
    failed = ask(user, "m")[-1].data
    assert (failed["code"], failed["message"]) == ("bad-request", NO_BASE_URL)

    papita.base_url = f"{noting.origin}/v1"
    for fields in ({"api_key": KEY + "\n"}, {"api_key": KEY, "organization": "a\r\nX-Other: b"}):
        papita.fields = fields
        assert ask(user, "m")[-1].data["code"] == "credential-rejected"
    papita.fields = {"api_key": {"nested": KEY}}
    assert ask(user, "m")[-1].data["code"] == "papita-error"
    client.close()
