"""A small Papita as a real HTTP server in a thread: keys, token exchange, credentials, leases.

`behaviour` names a failure to play, `ended` the users whose loans have ended and why; everything
else is answered as the contract says.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CLIENT = ("al-chat", "fake-client-secret-for-tests")
CANARY_KEY = "sk-demo-canary-4f1d9b7c2e8a"

PROBLEMS: dict[str, tuple[str, int, dict[str, Any], dict[str, str]]] = {
    # name: (where, status, body, headers)
    "consent-required": ("token", 403, {"code": "consent-required"}, {}),
    "invalid-client": ("token", 401, {"code": "invalid-client", "error": "invalid_client"}, {}),
    "invalid-grant": ("token", 400, {"code": "invalid-grant", "error": "invalid_grant"}, {}),
    "token-500": ("token", 500, {}, {}),
    "credential-not-found": ("credential", 404, {"code": "credential-not-found"}, {}),
    "credential-expired": ("credential", 409, {"code": "credential-expired"}, {}),
    "credential-disabled": ("credential", 409, {"code": "credential-disabled"}, {}),
    "secret-unreadable": ("credential", 500, {"code": "secret-unreadable"}, {}),
    "project-disabled": ("token", 403, {"code": "project-disabled"}, {}),
    "session-ended": ("token", 401, {"code": "session-ended"}, {}),
    "budget-exceeded": (
        "credential",
        429,
        {
            "code": "budget-exceeded",
            "budget": {
                "limitUsd": 5,
                "spentUsd": 5.25,
                "period": "month",
                "warning": True,
                "beginsAnewAt": "2099-02-01T00:00:00+00:00",
            },
        },
        {"Retry-After": "86400"},
    ),
    "usage-500": ("usage", 500, {}, {}),
    "vault-sealed": ("credential", 503, {"code": "vault-sealed"}, {}),
    "rate-limited": ("credential", 429, {"code": "rate-limited"}, {"Retry-After": "9"}),
    "credential-401": ("credential", 401, {"code": "unauthenticated"}, {}),
    "credential-403": ("credential", 403, {"code": "forbidden"}, {}),
    "redirect": ("credential", 307, {}, {"Location": "http://127.0.0.1:9/stolen"}),
    "nonsense": ("credential", 200, {"credentials": "nothing"}, {}),
    "check-404": ("check", 404, {"code": "not-found"}, {}),
    "check-401": ("check", 401, {"code": "invalid-client"}, {}),
    "check-500": ("check", 500, {}, {}),
    "check-nonsense": ("check", 200, {"ended": [{"id": 1}]}, {}),
    "check-other-nonsense": ("check", 200, {"ended": "all of them"}, {}),
}


@dataclass
class _Lease:
    """The row behind a project token."""

    id: str
    username: str
    ends: float
    asked: str


class FakePapita:
    """`with FakePapita() as papita:` - `url`, `token_for(name)`, `behaviour`, `loans`.

    `loans` counts what was lent to each user, `runs` says for which runs, `request_ids` in which
    requests, `checks` holds the pairs of each question whether leases still stand, `usage` what was
    reported, by its id. `erasures` are deleted users by their ids: name, and whether it is final;
    `confirmed` of whom nothing is left. `tool_tokens` are those of tool servers, by their URLs.
    `together` says how many loans were asked for in each request for several.
    """

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.kid = "key-1"
        self.behaviour = ""
        self.base_url: str | None = "http://127.0.0.1:9/v1"
        self.api_key = CANARY_KEY
        self.fields: dict[str, Any] | None = None
        self.credential_type = "openai"
        self.token_seconds = 300.0
        self.ended: dict[str, str] = {}
        self.exchanges: Counter[str] = Counter()
        self.loans: Counter[str] = Counter()
        self.runs: dict[str, list[str | None]] = defaultdict(list)
        self.request_ids: dict[str, list[str | None]] = defaultdict(list)
        self.erasures: dict[str, tuple[str, bool]] = {}
        self.erasures_known = True
        self.confirmed: list[str] = []
        self.together: list[int] = []
        self.checks: list[list[tuple[str, str]]] = []
        self.usage: dict[str, dict[str, Any]] = {}
        self.budget: dict[str, Any] | None = None
        self.jwks_reads = 0
        self.tool_tokens: dict[str, str] = {}
        self._tokens: dict[str, _Lease] = {}
        self._wires: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FakePapita:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        papita = self

        class Handler(_Handler):
            owner = papita

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            for wire in tuple(self._wires):
                with contextlib.suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        self.behaviour = ""
        self.token_seconds = 300.0
        self.api_key = CANARY_KEY
        self.fields = None
        self.credential_type = "openai"
        self.budget = None
        self.ended.clear()
        self.checks.clear()
        self.erasures.clear()
        self.erasures_known = True
        self.confirmed.clear()
        self.together.clear()

    def forget_tokens(self) -> None:
        """Project tokens given out so far open nothing any more."""
        self._tokens.clear()

    def claims(self, username: str, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": "papita",
            "aud": "al-chat",
            "sub": f"user-{username}",
            "preferred_username": username,
            "sid": f"session-{username}",
            "jti": uuid.uuid4().hex,
            "iat": now,
            "exp": now + 300,
            "scope": "chat",
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not None}

    def token_for(self, username: str, **changes: Any) -> str:
        return self.sign(self.claims(username, **changes))

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        headers = {"typ": "at+jwt", "kid": self.kid, **header}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers=headers)

    def jwks(self) -> dict[str, Any]:
        raw = self.key.public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        key = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "alg": "EdDSA"}
        return {"keys": [{**key, "use": "sig"}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FakePapita

    def setup(self) -> None:
        super().setup()
        self.owner._wires.add(self.connection)

    def finish(self) -> None:
        self.owner._wires.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/api/.well-known/jwks.json":
            self.owner.jwks_reads += 1
            self._answer(200, self.owner.jwks())
        elif parts.path == "/api/credentials":
            if not self._misbehave("credential"):
                self._credential(parse_qs(parts.query))
        elif parts.path == "/api/erasures" and self.owner.erasures_known:
            self._erasures()
        else:
            self._answer(404, {"code": "not-found"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/api/leases/check":
            if not self._misbehave("check"):
                self._check(body)
        elif self.path == "/api/loans" and self.owner.behaviour != "loans-404":
            self._loans(body)
        elif self.path == "/api/usage":
            if not self._misbehave("usage"):
                self._usage(body)
        elif self.path != "/api/token":
            self._answer(404, {"code": "not-found"})
        elif not self._misbehave("token"):
            self._exchange({name: values[0] for name, values in parse_qs(body).items()})

    def do_DELETE(self) -> None:
        user_id = self.path.removeprefix("/api/erasures/")
        if not self._is_client():
            return
        if user_id not in self.owner.erasures:
            self._answer(404, {"code": "not-found"})
        elif not self.owner.erasures[user_id][1]:
            self._answer(409, {"code": "conflict"})
        else:
            del self.owner.erasures[user_id]
            self.owner.confirmed.append(user_id)
            self.send_response(204)
            self.end_headers()

    def _erasures(self) -> None:
        if not self._is_client():
            return
        due = [
            {"userId": user_id, "username": name, "askedAt": "2030-01-31T12:00:00Z", "final": final}
            for user_id, (name, final) in tuple(self.owner.erasures.items())
        ]
        self._answer(200, {"erasures": due})

    def _is_client(self) -> bool:
        scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic" and base64.b64decode(encoded).decode() == ":".join(CLIENT):
            return True
        self._answer(401, {"code": "invalid-client", "error": "invalid_client"})
        return False

    def _check(self, body: str) -> None:
        if not self._is_client():
            return
        asked = json.loads(body)["leases"]
        if not 0 < len(asked) <= 500:
            self._answer(422, {"code": "invalid-input"})
            return
        self.owner.checks.append([(item["id"], item["credentialId"]) for item in asked])
        ended = []
        for item in asked:
            code = self.owner.ended.get(item["credentialId"].removeprefix("credential-"))
            if code is not None:
                ended.append({**item, "code": code, "detail": "A sentence of Papita's own."})
        self._answer(200, {"ended": ended})

    def _loans(self, body: str) -> None:
        if not self._is_client():
            return
        wanted = json.loads(body)["loans"]
        self.owner.together.append(len(wanted))
        if not 0 < len(wanted) <= 64:
            self._answer(422, {"code": "invalid-input"})
            return
        outcomes = []
        for one in wanted:
            status, answer, headers = self._lent(one)
            outcome: dict[str, Any] = {"status": status}
            outcome["loan" if status == 200 else "problem"] = answer
            if "Retry-After" in headers:
                outcome["retryAfter"] = int(headers["Retry-After"])
            outcomes.append(outcome)
        self._answer(200, {"loans": outcomes})

    def _lent(self, wanted: dict[str, str]) -> tuple[int, dict[str, Any], dict[str, str]]:
        """One of several loans: what a request for it alone would be answered."""
        problem = PROBLEMS.get(self.owner.behaviour)
        if problem is not None and problem[0] == "credential":
            return problem[1:]
        token, request_id = wanted.pop("token"), wanted.pop("requestId", None)
        query = {name: [value] for name, value in {**wanted, "projectId": "al-chat"}.items()}
        return self._loan(token, query, request_id)

    def _usage(self, body: str) -> None:
        if not self._is_client():
            return
        for record in json.loads(body)["records"]:
            self.owner.usage[record["id"]] = record
        self._answer(200, {"counted": 0, "repeated": 0, "unknown": []})

    def _exchange(self, form: dict[str, str]) -> None:
        if not self._is_client():
            return
        expected = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "scope": "credential:use",
        }
        asked = form.get("credential_type")
        if asked not in ("openai", "mcp") or any(
            form.get(name) != value for name, value in expected.items()
        ):
            self._answer(400, {"code": "invalid-request", "error": "invalid_request"})
            return
        claims = jwt.decode(
            form["subject_token"],
            self.owner.key.public_key(),
            algorithms=["EdDSA"],
            audience="al-chat",
        )
        username = claims["preferred_username"]
        if self.owner.ended.get(username) in ("consent-required", "project-disabled"):
            self._answer(403, {"code": self.owner.ended[username]})
            return
        self.owner.exchanges[username] += 1
        token, life = uuid.uuid4().hex, self.owner.token_seconds
        self.owner._tokens[token] = _Lease(uuid.uuid4().hex, username, time.time() + life, asked)
        self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": life})

    def _credential(self, query: dict[str, list[str]]) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, body, headers = self._loan(token, query, self.headers.get("X-Request-Id"))
        self._answer(status, body, headers)

    def _loan(
        self, token: str, query: dict[str, list[str]], request_id: str | None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        lease = self.owner._tokens.get(token)
        if lease is None or lease.ends <= time.time():
            return 401, {"code": "unauthenticated"}, {}
        username = lease.username
        if username in self.owner.ended:
            return 403, {"code": self.owner.ended[username]}, {}
        run = query.pop("runId", [None])[0]
        url = query.pop("baseUrl", [""])[0]
        tool = self.owner.tool_tokens.get(url) if lease.asked == "mcp" else None
        if query != {
            "username": [username],
            "credentialType": [lease.asked],
            "projectId": ["al-chat"],
        } or (tool is None and (url or lease.asked == "mcp")):
            return 404, {"code": "credential-not-found"}, {}
        self.owner.loans[username] += 1
        self.owner.runs[username].append(run)
        self.owner.request_ids[username].append(request_id)
        credential = {
            "id": f"tool-{username}",
            "credentialType": "mcp-server",
            "projectId": None,
            "baseUrl": url,
            "credentials": {"token": tool},
        }
        fields = self.owner.fields
        return (
            200,
            {
                "credentials": {
                    "id": f"credential-{username}",
                    "credentialType": self.owner.credential_type,
                    "projectId": "al-chat",
                    "baseUrl": self.owner.base_url,
                    "credentials": {"api_key": self.owner.api_key} if fields is None else fields,
                }
                if tool is None
                else credential,
                "lease": {
                    "id": lease.id,
                    "expiresAt": datetime.fromtimestamp(lease.ends, UTC).isoformat(),
                },
                **({} if self.owner.budget is None else {"budget": self.owner.budget}),
            },
            {},
        )

    def _misbehave(self, where: str) -> bool:
        if self.owner.behaviour == {"credential": "hang", "check": "check-hang"}.get(where):
            time.sleep(5.0)
            return False
        problem = PROBLEMS.get(self.owner.behaviour)
        if problem is None or problem[0] != where:
            return False
        self._answer(problem[1], problem[2], problem[3])
        return True

    def _answer(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.end_headers()
            self.wfile.write(raw)
