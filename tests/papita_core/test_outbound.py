"""The guard of outbound requests: global addresses, allowed origins, and nothing by a detour."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from papita_core import outbound
from papita_core.outbound import AddressRefused, Unreachable, is_global
from tests.hostile_addresses import GLOBAL, HOSTS, PRIVATE, URLS


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_the_internet_does_not_route_are_refused(address: str):
    assert not is_global(address)


@pytest.mark.parametrize("address", GLOBAL)
def test_addresses_of_the_internet_are_taken(address: str):
    assert is_global(address)


class Server:
    """A real HTTP server that notes who asked for what."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        noted = self.seen

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                noted.append((self.path, dict(self.headers.items())))
                if self.path == "/redirect":
                    self.send_response(302)
                    self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif self.path == "/drip":
                    self.send_response(200)
                    self.end_headers()
                    while True:
                        self.wfile.write(b" ")
                        time.sleep(0.05)
                elif self.path == "/large":
                    self.send_response(200)
                    self.end_headers()
                    for _ in range(50):
                        self.wfile.write(bytes(100_000))
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"ok")

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


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.mark.parametrize("host", HOSTS)
def test_no_spelling_of_a_private_address_is_called(server: Server, host: str):
    with pytest.raises(Unreachable):
        outbound.get(f"http://{host}:{server.port}/", {"Authorization": "key"})
    assert server.seen == []


def test_an_address_is_refused_in_a_sentence_that_says_what_to_do(server: Server):
    with pytest.raises(AddressRefused, match="PAPITA_PROVIDER_ALLOWLIST"):
        outbound.get(f"{server.origin}/", {})


@pytest.mark.parametrize("url", URLS)
def test_no_url_that_parsers_read_differently_is_called(server: Server, url: str):
    with pytest.raises(Unreachable):
        outbound.get(url.replace("{port}", str(server.port)), {"Authorization": "key"})
    assert server.seen == []


def test_an_allowed_origin_is_called_with_its_headers(server: Server):
    answer = outbound.get(
        f"{server.origin}/v1/models", {"Authorization": "key"}, allowlist={server.origin}
    )
    assert (answer.status, answer.body) == (200, b"ok")
    ((path, headers),) = server.seen
    assert path == "/v1/models"
    assert headers["Authorization"] == "key"
    assert headers["Host"] == f"127.0.0.1:{server.port}"


def test_only_the_very_origin_is_allowed(server: Server):
    for allowed in (
        f"https://127.0.0.1:{server.port}",
        "http://127.0.0.1",
        f"http://localhost:{server.port}",
        f"http://127.0.0.1:{server.port + 1}",
    ):
        with pytest.raises(AddressRefused):
            outbound.get(f"{server.origin}/", {}, allowlist={allowed})
    assert server.seen == []


def test_a_redirect_is_an_answer_and_not_followed(server: Server):
    answer = outbound.get(f"{server.origin}/redirect", {}, allowlist={server.origin})
    assert answer.status == 302
    assert [path for path, _ in server.seen] == ["/redirect"]


def test_a_name_with_one_private_address_among_its_addresses_is_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    """The resolver is the edge here: a name server of an attacker answers like this."""

    def answers(*arguments: object, **options: object) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))
            for address in ("8.8.8.8", "169.254.169.254")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    with pytest.raises(AddressRefused):
        outbound.get("https://evil.example/", {})


def test_the_address_that_was_checked_is_the_one_that_is_called(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    """A name that changes between check and use is resolved once, so there is no between."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def answers(host: str, *arguments: object, **options: object) -> object:
        asked.append(host)
        return resolve("127.0.0.1", server.port, type=socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    origin = f"http://rebind.example:{server.port}"
    answer = outbound.get(f"{origin}/", {}, allowlist={origin})
    assert answer.status == 200
    assert [host for host in asked if host != "127.0.0.1"] == ["rebind.example"]
    assert server.seen[0][1]["Host"] == f"rebind.example:{server.port}"


def test_a_slow_drip_ends_in_time(server: Server):
    begin = time.monotonic()
    with pytest.raises(Unreachable):
        outbound.get(f"{server.origin}/drip", {}, allowlist={server.origin}, total_seconds=0.5)
    assert time.monotonic() - begin < 3


def test_a_large_answer_is_cut(server: Server):
    answer = outbound.get(f"{server.origin}/large", {}, allowlist={server.origin})
    assert len(answer.body) == outbound.MAX_BYTES


def test_nobody_there_and_no_such_name_are_unreachable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unreachable, match="does not answer"):
            outbound.get(f"{origin}/", {}, allowlist={origin})
    with pytest.raises(Unreachable, match="no such host"):
        outbound.get("https://nothing.invalid/", {})


def test_a_certificate_that_does_not_verify_is_told_apart(server: Server):
    origin = f"https://127.0.0.1:{server.port}"
    with pytest.raises(Unreachable, match=r"certificate|does not answer"):
        outbound.get(f"{origin}/", {}, allowlist={origin})
    assert server.seen == []
