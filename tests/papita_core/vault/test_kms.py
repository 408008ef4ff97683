"""Master keys, wherever they are kept, keep one contract; and a service that fails fails clearly.

AWS KMS is played by moto, which others wrote after the real one; the Transit engine of HashiCorp
Vault by a server here that checks what it is sent. Both are asked over HTTP.
"""

from __future__ import annotations

import base64
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from moto.server import ThreadedMotoServer

from papita_core.actors import Actor
from papita_core.app import Papita
from papita_core.errors import MasterKeyUnavailable, VaultSealed
from papita_core.settings import SettingsError
from papita_core.vault import crypto
from papita_core.vault.aws_kms import AwsKmsMasterKey
from papita_core.vault.master_key import LocalMasterKey, MasterKey, find_master_key
from papita_core.vault.service import NewCredential
from papita_core.vault.vault_transit import VaultTransitMasterKey
from tests.papita_core.house import KEY, House, both_engines

TOKEN = "hvs.a-token-of-vault"
OPERATOR = Actor.operator()
ROOT = bytes(range(32))
PLACE = (b"a root key id...",)


@dataclass
class Transit:
    """A Vault with two keys. `status` and `answer` make it answer something else."""

    address: str
    keys: dict[str, bytes] = field(
        default_factory=lambda: {"team/transit/papita": bytes(32), "team/transit/other": b"o" * 32}
    )
    seen: list[dict[str, str]] = field(default_factory=list)
    status: int | None = None
    answer: bytes = b'{"errors": ["no"]}'


def _serve(transit: Transit, path: str, headers: Any, body: dict[str, str]) -> tuple[int, Any]:
    if headers["X-Vault-Token"] != TOKEN:
        return 403, {"errors": ["permission denied"]}
    mount, _, rest = path.removeprefix("/v1/").rpartition("/encrypt/")
    if not mount:
        mount, _, rest = path.removeprefix("/v1/").rpartition("/decrypt/")
    if mount != "team/transit":
        return 404, {"errors": ["no handler for route"]}
    key = transit.keys.get(f"{mount}/{rest}")
    if key is None:
        return 400, {"errors": ["encryption key not found"]}
    bound = base64.b64decode(body["associated_data"], validate=True)
    nonce = bytes(12)
    if "/encrypt/" in path:
        sealed = AESGCM(key).encrypt(nonce, base64.b64decode(body["plaintext"]), bound)
        ciphertext = f"vault:v1:{base64.b64encode(sealed).decode()}"
        return 200, {"data": {"ciphertext": ciphertext, "key_version": 1}}
    prefix, _, text = body["ciphertext"].rpartition(":")
    try:
        if prefix != "vault:v1":
            raise ValueError
        plain = AESGCM(key).decrypt(nonce, base64.b64decode(text, validate=True), bound)
    except (InvalidTag, ValueError):
        return 400, {"errors": ["cipher: message authentication failed"]}
    return 200, {"data": {"plaintext": base64.b64encode(plain).decode()}}


@contextmanager
def serving(transit: Transit) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            transit.seen.append({"path": self.path, **dict(self.headers.items())})
            status, answer = _serve(transit, self.path, self.headers, body)
            data = json.dumps(answer).encode()
            if transit.status is not None:
                status, data = transit.status, transit.answer
            self.send_response(status)
            if status == 307:
                self.send_header("Location", f"{transit.address}/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    transit.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def transit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Transit]:
    made = Transit("")
    with serving(made):
        monkeypatch.setenv("VAULT_ADDR", made.address)
        monkeypatch.setenv("VAULT_TOKEN", TOKEN)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield made


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A client of KMS; whoever makes one from here on finds the same service."""
    for name, value in (
        ("AWS_ENDPOINT_URL", moto),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_CONFIG_FILE", str(tmp_path / "none")),
        ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none")),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    return boto3.session.Session().client("kms")


def new_key(aws: Any) -> str:
    return str(aws.create_key()["KeyMetadata"]["KeyId"])


@pytest.fixture(params=["local", "aws", "transit"])
def pair(request: pytest.FixtureRequest) -> tuple[MasterKey, MasterKey]:
    """Two keys of the same kind."""
    if request.param == "local":
        return LocalMasterKey(bytes(32)), LocalMasterKey(bytes(31) + b"1")
    if request.param == "aws":
        aws = request.getfixturevalue("aws")
        return AwsKmsMasterKey(new_key(aws)), AwsKmsMasterKey(new_key(aws))
    request.getfixturevalue("transit")
    names = ("team/transit/papita", "team/transit/other")
    return VaultTransitMasterKey(names[0]), VaultTransitMasterKey(names[1])


# --- what all of them keep ---


def test_what_is_wrapped_comes_back_and_is_not_to_be_seen(pair: tuple[MasterKey, MasterKey]):
    key, other = pair
    wrapped = key.wrap(ROOT, PLACE)
    assert key.unwrap(wrapped, PLACE) == ROOT
    for form in (ROOT, ROOT.hex().encode(), base64.b64encode(ROOT)):
        assert form not in wrapped
    assert len(key.key_id) == crypto.KEY_ID_BYTES
    assert key.key_id != other.key_id


def test_it_comes_back_in_its_own_place_alone(pair: tuple[MasterKey, MasterKey]):
    key, _ = pair
    wrapped = key.wrap(ROOT, PLACE)
    for place in ((), (b"another root key",), (*PLACE, b""), (PLACE[0][:8], PLACE[0][8:])):
        with pytest.raises(crypto.EnvelopeError):
            key.unwrap(wrapped, place)


def test_what_was_changed_does_not_open(pair: tuple[MasterKey, MasterKey]):
    key, _ = pair
    wrapped = key.wrap(ROOT, PLACE)
    for changed in (wrapped[:-1], wrapped[:-3] + b"AAA", wrapped[::-1], b"", b"\xff" * 60):
        with pytest.raises((crypto.EnvelopeError, MasterKeyUnavailable)):
            key.unwrap(changed, PLACE)


def test_another_key_does_not_open_it(pair: tuple[MasterKey, MasterKey]):
    key, other = pair
    with pytest.raises((crypto.EnvelopeError, MasterKeyUnavailable)):
        other.unwrap(key.wrap(ROOT, PLACE), PLACE)


# --- a service that fails ---


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def fails(use: Callable[[], object], *words: str) -> None:
    with pytest.raises(MasterKeyUnavailable) as caught:
        use()
    text = str(caught.value)
    for word in words:
        assert word in text
    assert "\n" not in text
    assert TOKEN not in text
    assert ROOT.hex() not in text
    assert caught.value.__cause__ is None


def test_aws_that_fails_says_so_in_a_sentence(aws: Any, monkeypatch: pytest.MonkeyPatch):
    key_id = new_key(aws)
    key = AwsKmsMasterKey(key_id)
    wrapped = key.wrap(ROOT, PLACE)
    fails(lambda: AwsKmsMasterKey("alias/none").wrap(ROOT, PLACE), "NotFoundException", "kms:")
    fails(lambda: AwsKmsMasterKey("alias/none").unwrap(wrapped, PLACE), "NotFoundException")
    with nobody() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        away = AwsKmsMasterKey(key_id)
        fails(lambda: away.wrap(ROOT, PLACE), "EndpointConnectionError", "reached")
        fails(lambda: away.unwrap(wrapped, PLACE), "EndpointConnectionError")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    fails(lambda: AwsKmsMasterKey(key_id).wrap(ROOT, PLACE), "NoCredentialsError")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("AccessDeniedException", MasterKeyUnavailable),
        ("DisabledException", MasterKeyUnavailable),
        ("IncorrectKeyException", crypto.EnvelopeError),
        ("InvalidCiphertextException", crypto.EnvelopeError),
    ],
)
def test_the_words_of_aws_are_understood(
    aws: Any, monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception]
):
    made = Transit("", status=400, answer=json.dumps({"__type": code}).encode())
    with serving(made):
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.address)
        with pytest.raises(error):
            AwsKmsMasterKey("alias/papita").unwrap(b"x", PLACE)


def test_aws_needs_a_region_and_its_package(aws: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(SettingsError, match="AWS_REGION"):
        AwsKmsMasterKey("alias/papita")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SettingsError, match="pip install boto3"):
        AwsKmsMasterKey("alias/papita")


def test_a_vault_that_fails_says_so_in_a_sentence(
    transit: Transit, monkeypatch: pytest.MonkeyPatch
):
    key = VaultTransitMasterKey("team/transit/papita")
    wrapped = key.wrap(ROOT, PLACE)
    for path in ("team/transit/none", "elsewhere/papita"):
        fails(lambda path=path: VaultTransitMasterKey(path).wrap(ROOT, PLACE), "status 40")
        fails(lambda path=path: VaultTransitMasterKey(path).unwrap(wrapped, PLACE), "status 40")
    for status, answer in (
        (503, b'{"errors": ["Vault is sealed"]}'),
        (200, b"no json"),
        (200, b"[]"),
        (200, b'{"data": {"plaintext": "%"}}'),
        (200, b'{"data": {"ciphertext": 1}}'),
        (307, b""),
    ):
        transit.status, transit.answer = status, answer
        fails(lambda: key.wrap(ROOT, PLACE), f"status {status}", "unsealed")
        fails(lambda: key.unwrap(wrapped, PLACE), f"status {status}")
    assert not [item for item in transit.seen if item["path"] == "/elsewhere"]
    transit.status = None
    with nobody() as address:
        monkeypatch.setenv("VAULT_ADDR", address)
        fails(lambda: VaultTransitMasterKey("team/transit/papita").wrap(ROOT, PLACE), "reached")


def test_the_token_of_vault_is_in_the_environment_or_in_its_file(
    transit: Transit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    key = VaultTransitMasterKey("team/transit/papita")
    monkeypatch.setenv("VAULT_TOKEN", "another")
    fails(lambda: key.wrap(ROOT, PLACE), "status 403")
    monkeypatch.setenv("VAULT_TOKEN", "no\ntoken")
    fails(lambda: key.wrap(ROOT, PLACE), "token")
    monkeypatch.delenv("VAULT_TOKEN")
    fails(lambda: key.wrap(ROOT, PLACE), "VAULT_TOKEN", ".vault-token")
    (tmp_path / ".vault-token").write_text(TOKEN + "\n")  # as an agent renews it
    monkeypatch.setenv("VAULT_NAMESPACE", "team-a")
    assert key.unwrap(key.wrap(ROOT, PLACE), PLACE) == ROOT
    assert transit.seen[-1]["X-Vault-Namespace"] == "team-a"
    assert transit.seen[-1]["X-Vault-Request"] == "true"


@pytest.mark.parametrize("address", ["", "http://vault.example:8200", "ftp://127.0.0.1", "vault"])
def test_root_keys_go_to_vault_in_clear_on_this_machine_alone(address: str):
    with pytest.raises(SettingsError, match=r"^VAULT_ADDR: "):
        VaultTransitMasterKey("transit/papita", {"VAULT_ADDR": address})
    VaultTransitMasterKey("transit/papita", {"VAULT_ADDR": "https://vault.example:8200"})


# --- in a vault ---


def test_a_uri_comes_after_the_environment_and_before_the_generated_key(
    house: House, transit: Transit
):
    uri = "vault-transit:team/transit/papita"
    house.papita  # noqa: B018 - generates a key
    found = find_master_key(house.settings(PAPITA_MASTER_KEY_URI=uri), generate=True)
    both = house.settings(PAPITA_MASTER_KEY_URI=uri, PAPITA_MASTER_KEY=ROOT.hex())
    first = find_master_key(both, generate=True)
    assert found is not None
    assert first is not None
    assert (found.source, first.source) == (uri, "PAPITA_MASTER_KEY")


@pytest.mark.parametrize(
    "uri", ["aws-kms:", "aws-kms:a b", "vault-transit:papita", "vault-transit:/x", "kms:x", "x"]
)
def test_a_malformed_uri_is_named(house: House, uri: str):
    with pytest.raises(SettingsError, match=r"^PAPITA_MASTER_KEY_URI: write it as"):
        house.settings(PAPITA_MASTER_KEY_URI=uri)


@both_engines
def test_a_vault_whose_master_key_a_service_keeps(house: House, transit: Transit):
    house.environment["PAPITA_MASTER_KEY_URI"] = "vault-transit:team/transit/papita"
    actor = house.sign_in("ana")
    house.key(actor)
    assert not house.settings().keys_dir.exists()
    again = house.opened()
    assert again.ring.status.source == "vault-transit:team/transit/papita"
    assert house.lend(house.project_token(actor), "ana").secret == {"api_key": KEY}
    house.papita.rotation.rotate_root(OPERATOR)
    asked = len(transit.seen)
    assert house.lend(house.project_token(actor), "ana").secret == {"api_key": KEY}
    assert len(transit.seen) == asked  # root keys stay in memory
    assert house.opened().ready() == (True, "ready")


def test_from_a_generated_key_to_aws_and_on_to_vault(house: House, aws: Any, transit: Transit):
    actor = house.sign_in("ana")
    house.key(actor)
    uris = [f"aws-kms:{new_key(aws)}", "vault-transit:team/transit/papita"]
    for uri in uris:
        settings = house.settings(PAPITA_MASTER_KEY_URI=uri)
        new = find_master_key(settings, generate=False)
        assert new is not None
        assert house.opened(PAPITA_MASTER_KEY_URI=uri).ring.sealed
        house.opened().rotation.rotate_master(OPERATOR, new)
        house.environment["PAPITA_MASTER_KEY_URI"] = uri
        house.opened().rotation.finish_master(OPERATOR)
        assert house.sql("SELECT master_kid FROM key_slots") == [(new.key_id.hex(),)]
    del house.environment["PAPITA_MASTER_KEY_URI"]
    assert house.opened().ring.sealed


def test_a_service_that_is_away_at_the_start_leaves_the_vault_sealed_until_it_is_back(
    house: House, transit: Transit, caplog: pytest.LogCaptureFixture
):
    house.environment["PAPITA_MASTER_KEY_URI"] = "vault-transit:team/transit/papita"
    actor = house.sign_in("ana")
    info = house.key(actor)
    transit.status = 503
    with caplog.at_level(logging.ERROR):
        papita = house.opened()
    assert papita.ready() == (False, "vault-sealed")
    assert "Vault does not open the master key: it answers with status 503" in caplog.text
    assert papita.credentials.list(actor).items == [info]
    with pytest.raises(VaultSealed):
        papita.projects.user_token(actor, "al-chat")
    transit.status = None
    asked = len(transit.seen)
    assert papita.ready() == (False, "vault-sealed")
    assert len(transit.seen) == asked  # not at every probe
    house.clock.forward(seconds=31)
    wait_until_open(papita)
    assert papita.projects.user_token(actor, "al-chat").token


def wait_until_open(papita: Papita) -> None:
    """Probes once, as an orchestrator does, and waits for what that has begun."""
    papita.ready()
    for thread in threading.enumerate():
        if thread.name == "unseal":
            thread.join(10)
    assert papita.ready() == (True, "ready")


def test_a_first_start_without_its_service_makes_nothing(house: House, transit: Transit):
    house.environment["PAPITA_MASTER_KEY_URI"] = "vault-transit:team/transit/papita"
    transit.status = 503
    papita = house.opened()
    assert papita.ready() == (False, "vault-sealed")
    assert papita.ring.status.roots == ()
    transit.status = None
    house.clock.forward(seconds=31)
    wait_until_open(papita)
    assert [root.state for root in papita.ring.status.roots] == ["active"]
    assert house.opened().ready() == (True, "ready")


def test_a_service_that_is_away_while_rotating_changes_nothing(house: House, transit: Transit):
    house.environment["PAPITA_MASTER_KEY_URI"] = "vault-transit:team/transit/papita"
    actor = house.sign_in("ana")
    info = house.key(actor)
    stale = house.opened()
    before = house.sql("SELECT kid, state FROM root_keys")
    transit.status = 503
    with pytest.raises(MasterKeyUnavailable):
        house.papita.rotation.rotate_root(OPERATOR)
    assert house.sql("SELECT kid, state FROM root_keys") == before
    transit.status = None
    house.papita.rotation.rotate_root(OPERATOR)
    transit.status = 503
    # This one would have to ask for the new root key, says so, and marks nothing as damaged.
    with pytest.raises(MasterKeyUnavailable):
        stale.credentials.test(actor, info.id)
    with pytest.raises(MasterKeyUnavailable):
        stale.credentials.create(actor, NewCredential("openai", {"api_key": KEY}))
    assert {item.status for item in house.papita.credentials.list(actor).items} == {"untested"}
    transit.status = None
    assert stale.ready() == (True, "ready")
