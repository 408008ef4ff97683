"""The guard of AL-Chat's requests: hostile addresses, names, redirects, and servers without end."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from alchat_core.credential_manager import Loan
from alchat_core.errors import RunError
from alchat_core.providers.guard import Guard, is_global
from alchat_core.providers.openai_compatible import Answer, Provider
from alchat_core.secret import Secret
from alchat_core.settings import Settings
from tests.hostile_addresses import GLOBAL, HOSTS, PRIVATE, URLS

KEY = "sk-a-key-that-must-not-travel"
CHUNK = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\n'


class Server:
    """A real HTTP server that notes who asked for what, and behaves as the path says."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        noted, server = self.seen, self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                noted.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                way = self.path.split("/")[1]
                getattr(self, f"_{way}", self._plain)()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def _plain(self) -> None:
                body = b'{"data":[{"id":"m"}]}' if self.path.endswith("models") else CHUNK
                self._head(200, {"Content-Length": str(len(body))})
                self.wfile.write(body)

            def _redirect(self) -> None:
                self._head(307, {"Location": f"{server.origin}/secret", "Content-Length": "0"})

            def _drip(self) -> None:
                self._head(200)
                self._for_ever(b" ", 0.05)

            def _dripping_refusal(self) -> None:
                self._head(400)
                self._for_ever(b" ", 0.05)

            def _endless(self) -> None:
                self._head(200)
                self._for_ever(bytes(100_000))

            def _endless_comments(self) -> None:
                self._head(200)
                self._for_ever(b": still here\n" * 5000)

            def _endless_refusal(self) -> None:
                self._head(500)
                self._for_ever(b"x" * 100_000)

            def _packed(self) -> None:
                self._head(200, {"Content-Encoding": "gzip"})
                self.wfile.write(gzip.compress(bytes(50_000_000)))

            def _no_head(self) -> None:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                self._for_ever(b"x", 0.05)

            def _head(self, status: int, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()

            def _for_ever(self, piece: bytes, pause: float = 0.0) -> None:
                while True:
                    self.wfile.write(piece)
                    server.sent += len(piece)
                    time.sleep(pause)

            def log_message(self, *arguments: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # clients that leave are what is tested here

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def _server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def server(_server: Server) -> Server:
    _server.seen.clear()
    _server.sent = 0
    return _server


def loan(base_url: str) -> Loan:
    return Loan("c", "openai", "l", base_url, Secret(KEY))


def with_provider(
    scenario: Callable[[Provider], Coroutine[Any, Any, None]], *allowed: str, seconds: float = 5.0
) -> None:
    async def run() -> None:
        settings = Settings(
            papita_provider_allowlist=allowed,
            alchat_first_token_timeout=seconds,
            alchat_token_gap_timeout=seconds,
            alchat_provider_connect_timeout=0.5,
        )
        provider = Provider(settings)
        try:
            async with asyncio.timeout(30):
                await scenario(provider)
        finally:
            await provider.close()

    asyncio.run(run())


async def refused_with(provider: Provider, base_url: str) -> set[str]:
    """The codes with which models and an answer of this base URL are refused."""
    codes = set()
    with pytest.raises(RunError) as refused:
        await provider.models(loan(base_url))
    codes.add(refused.value.code)
    with pytest.raises(RunError) as refused:
        await answer(provider, base_url)
    codes.add(refused.value.code)
    return codes


async def answer(provider: Provider, base_url: str) -> str:
    pieces = provider.stream(loan(base_url), "m", [{"role": "user", "content": "x"}], Answer())
    return "".join([piece async for piece in pieces])


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_on_the_public_internet(address: str) -> None:
    assert not is_global(address)
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(RunError) as refused:
        Guard([]).check(f"https://{host}/v1")
    assert refused.value.code == "bad-request"


@pytest.mark.parametrize("address", GLOBAL)
def test_addresses_that_are(address: str) -> None:
    assert is_global(address)
    host = f"[{address}]" if ":" in address else address
    assert Guard([]).check(f"https://{host}/v1/") == f"https://{host}/v1"


def test_no_spelling_of_a_private_address_is_called(server: Server) -> None:
    async def scenario(provider: Provider) -> None:
        for host in HOSTS:
            codes = await refused_with(provider, f"http://{host}:{server.port}/v1")
            assert codes <= {"bad-request", "provider-unreachable"}, host

    with_provider(scenario)
    assert server.seen == []


def test_no_url_that_parsers_read_differently_is_called(server: Server) -> None:
    async def scenario(provider: Provider) -> None:
        for url in URLS:
            url = url.replace("{port}", str(server.port))
            codes = await refused_with(provider, url)
            assert codes <= {"bad-request", "provider-unreachable"}, url

    with_provider(scenario)
    assert server.seen == []


def test_the_connection_itself_is_guarded_too(server: Server) -> None:
    """Whatever might get past the reading of the URL ends where the socket is made."""

    async def scenario(provider: Provider) -> None:
        provider._guard.check = lambda base_url: base_url  # type: ignore[method-assign]
        for host in ("127.0.0.1", "127。0。0。1", "[::ffff:127.0.0.1]", "localhost"):
            assert await refused_with(provider, f"http://{host}:{server.port}/v1") == {
                "bad-request"
            }, host

    with_provider(scenario)
    assert server.seen == []


def test_the_guard_knows_origins_not_hosts(server: Server) -> None:
    async def scenario(provider: Provider) -> None:
        assert await provider.models(loan(f"{server.origin}/v1")) == ("m",)
        assert await answer_of(provider) == "x"
        for other in (
            f"http://127.0.0.1:{server.port + 1}/v1",
            f"https://127.0.0.1:{server.port}/v1",
            f"http://localhost:{server.port}/v1",
            f"http://127.1:{server.port}/v1",
            f"http://[::ffff:127.0.0.1]:{server.port}/v1",
            "http://127.0.0.1/v1",
        ):
            assert await refused_with(provider, other) == {"bad-request"}, other

    async def answer_of(provider: Provider) -> str:
        with pytest.raises(RunError):  # the stream ends without a reason, which is no answer
            await answer(provider, f"{server.origin}/v1")
        return "x"

    with_provider(scenario, server.origin)
    assert len(server.seen) == 2


def test_an_allowed_name_is_called_by_that_name_alone(server: Server) -> None:
    origin = f"http://localhost:{server.port}"

    async def scenario(provider: Provider) -> None:
        assert await provider.models(loan(f"{origin}/v1")) == ("m",)
        assert await refused_with(provider, f"{server.origin}/v1") == {"bad-request"}

    with_provider(scenario, origin)
    ((_, headers),) = server.seen
    assert headers["host"] == f"localhost:{server.port}"


def test_a_redirect_is_not_followed(server: Server) -> None:
    async def scenario(provider: Provider) -> None:
        assert await refused_with(provider, f"{server.origin}/redirect") == {"bad-request"}

    with_provider(scenario, server.origin)
    assert {path for path, _ in server.seen} == {"/redirect/models", "/redirect/chat/completions"}


def resolver(
    monkeypatch: pytest.MonkeyPatch, answers: Callable[[str, int], list[str]]
) -> list[str]:
    """The edge of this machine, a name server of an attacker: `answers(host, how often asked)`."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *more: object, **options: object) -> list[object]:
        asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in answers(host, len(asked))
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "addresses",
    [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["127.0.0.1"], ["169.254.169.254"]],
)
def test_a_name_with_one_private_address_among_its_addresses_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    resolver(monkeypatch, lambda host, often: addresses)

    async def scenario(provider: Provider) -> None:
        codes = await refused_with(provider, f"http://evil.example:{server.port}/v1")
        assert codes == {"bad-request"}

    with_provider(scenario)
    assert server.seen == []


def test_a_name_that_changes_between_check_and_use_gains_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is global, every later one this machine."""
    asked = resolver(monkeypatch, lambda host, often: ["127.0.0.1"] if often > 1 else ["192.0.3.1"])

    async def scenario(provider: Provider) -> None:
        with pytest.raises(RunError):
            await provider.models(loan(f"http://rebind.example:{server.port}/v1"))
        # One question for one request: there is no between.
        assert asked == ["rebind.example"]

    with_provider(scenario)
    assert server.seen == []


def test_the_address_that_was_checked_is_the_one_that_is_called(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolver(
        monkeypatch, lambda host, often: ["127.0.0.1"] if often == 1 else ["127.0.0.9"]
    )
    origin = f"http://rebind.example:{server.port}"

    async def scenario(provider: Provider) -> None:
        assert await provider.models(loan(f"{origin}/v1")) == ("m",)

    with_provider(scenario, origin)
    assert asked == ["rebind.example"]
    ((_, headers),) = server.seen
    assert headers["host"] == f"rebind.example:{server.port}"


@pytest.mark.parametrize("way", ["drip", "dripping_refusal", "no_head"])
def test_a_byte_now_and_then_ends_in_time(server: Server, way: str) -> None:
    async def scenario(provider: Provider) -> None:
        codes = await refused_with(provider, f"{server.origin}/{way}")
        assert codes == {"provider-timeout"}

    with_provider(scenario, server.origin, seconds=0.5)


def test_bytes_without_end_are_read_to_a_limit(server: Server) -> None:
    async def scenario(provider: Provider) -> None:
        assert await refused_with(provider, f"{server.origin}/endless") == {"provider-error"}
        assert await refused_with(provider, f"{server.origin}/endless_refusal") == {
            "provider-error"
        }

    with_provider(scenario, server.origin, seconds=20)
    # What the kernel holds of a connection comes on top of the limits.
    assert server.sent < 60_000_000


def test_comments_without_end_and_without_a_word_end_in_time(server: Server) -> None:
    async def scenario(provider: Provider) -> None:
        with pytest.raises(RunError) as refused:
            await answer(provider, f"{server.origin}/endless_comments")
        assert refused.value.code == "provider-timeout"

    with_provider(scenario, server.origin, seconds=0.5)


def test_what_comes_packed_though_it_was_not_asked_for_is_not_unpacked(server: Server) -> None:
    async def scenario(provider: Provider) -> None:
        assert await refused_with(provider, f"{server.origin}/packed") == {"provider-error"}

    with_provider(scenario, server.origin)
    assert {headers["accept-encoding"] for _, headers in server.seen} == {"identity"}


def test_nobody_there_and_no_such_name_are_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{free.getsockname()[1]}"

        async def scenario(provider: Provider) -> None:
            assert await refused_with(provider, f"{origin}/v1") == {"provider-unreachable"}
            assert await refused_with(provider, "https://nothing.invalid/v1") == {
                "provider-unreachable"
            }

        with_provider(scenario, origin)
