"""Asking the provider whether a key works, against a provider that is a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from papita_core.errors import CredentialNotFound, SecretUnreadable, TestFailed
from papita_core.vault.service import ReplaceCredential, TestResult
from tests.papita_core.house import KEY, House, both_engines


def asked(house: House, origin: str, key: str = KEY, base_url: str | None = None) -> TestResult:
    """What a test says of `key` at `origin`, which is also what is remembered."""
    house.environment["PAPITA_PROVIDER_ALLOWLIST"] = origin
    ana = house.sign_in("ana")
    info = house.key(ana, key, base_url=base_url or f"{origin}/v1")
    result = house.papita.credentials.test(ana, info.id)
    remembered = house.papita.credentials.get(ana, info.id)
    assert (remembered.status, remembered.checked_at) == (result.status, result.checked_at)
    assert remembered.etag == info.etag
    assert key not in repr(result)
    actions = [entry.event.action for entry in house.papita.audit.entries(ana).items]
    assert actions[:2] == ["credential.tested", "credential.created"]
    return result


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "https://elsewhere.example/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def behave(provider: str, **wanted: bool) -> None:
    requests.post(f"{provider}/_demo/behaviour", json=wanted, timeout=5).raise_for_status()


def test_a_key_that_works(house: House, provider: str):
    assert asked(house, provider).status == "ok"


def test_a_key_that_the_provider_does_not_know(house: House, provider: str):
    result = asked(house, provider, "sk-of-somebody-else-1")
    assert (result.status, result.detail) == (
        *("rejected", "The provider rejects the key. Replace it with one that is valid."),
    )


def test_a_provider_that_is_down(house: House, provider: str):
    behave(provider, down=True)
    try:
        assert asked(house, provider).status == "unreachable"
    finally:
        behave(provider, down=False)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (200, "ok"),
        (401, "rejected"),
        (403, "rejected"),
        (404, "error"),
        (429, "rate_limited"),
        (500, "error"),
        (302, "error"),
    ],
)
def test_each_answer_has_a_status_and_a_sentence(house: House, answer: int, status: str):
    with answering(answer) as origin:
        result = asked(house, origin)
    assert result.status == status
    assert result.detail.endswith(".")


def test_a_private_address_is_not_asked(house: House, provider: str):
    elsewhere = provider.replace("http:", "https:")
    assert asked(house, provider, base_url=elsewhere).status == "refused"


def test_anothers_credential_is_not_tested(house: House):
    info = house.key(house.sign_in("ana"))
    with pytest.raises(CredentialNotFound):
        house.papita.credentials.test(house.sign_in("eve"), info.id)


@both_engines
def test_a_secret_that_cannot_be_read_is_shown_as_such_and_asked_of_nobody(house: House):
    ana = house.sign_in("ana")
    info = house.key(ana)
    house.sql("UPDATE credential_secrets SET version = 7")
    credentials = house.papita.credentials
    for use in (
        lambda: credentials.test(ana, info.id),
        lambda: credentials.replace(
            ana, info.id, ReplaceCredential(), etag=info.etag, test_first=True
        ),
    ):
        with pytest.raises(SecretUnreadable):
            use()
        assert credentials.get(ana, info.id).status == "unreadable"
        last = house.papita.audit.entries(ana).items[0].event
        assert last.action == "credential.unreadable"
    assert [item.status for item in credentials.list(ana).items] == ["unreadable"]
    new = ReplaceCredential(secret={"api_key": KEY})
    assert credentials.replace(ana, info.id, new, etag=info.etag).status == "untested"


@both_engines
def test_a_candidate_that_does_not_pass_changes_nothing(house: House):
    with answering(401) as origin:
        house.environment["PAPITA_PROVIDER_ALLOWLIST"] = origin
        ana = house.sign_in("ana")
        info = house.key(ana, base_url=f"{origin}/v1")
        before = house.papita.credentials.get(ana, info.id)
        for secret in (None, {"api_key": "sk-demo-the-new-one-1"}):
            new = ReplaceCredential(base_url=info.base_url, label="new", secret=secret)
            with pytest.raises(TestFailed) as caught:
                house.papita.credentials.replace(ana, info.id, new, etag=info.etag, test_first=True)
            assert caught.value.test_status == "rejected"
            assert "the-new-one" not in str(caught.value)
    assert house.papita.credentials.get(ana, info.id) == before
    assert house.lend(house.project_token(ana), "ana").secret == {"api_key": KEY}
