"""The API: its routes, its refusals, and who gets no answer at all."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from conftest import Service, ask, follow_to_end
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fake_papita import CANARY_KEY, CLIENT, FakePapita

from alchat_core.api.app import create_app
from alchat_core.client import AlChatClient, NotSignedIn, Unavailable, UserClient
from alchat_core.settings import Settings

ROUTES = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/api/models"),
    ("GET", "/api/conversations"),
    ("POST", "/api/conversations"),
    ("GET", "/api/conversations/{conversation_id}"),
    ("PATCH", "/api/conversations/{conversation_id}"),
    ("DELETE", "/api/account"),
    ("DELETE", "/api/conversations/{conversation_id}"),
    ("POST", "/api/conversations/{conversation_id}/copy"),
    ("POST", "/api/conversations/{conversation_id}/restore"),
    ("GET", "/api/search"),
    ("GET", "/api/conversations/{conversation_id}/messages"),
    ("POST", "/api/conversations/{conversation_id}/messages"),
    ("POST", "/api/messages/{message_id}/runs"),
    ("POST", "/api/messages/{message_id}/continue"),
    ("GET", "/api/messages/{message_id}/comparison"),
    ("PUT", "/api/messages/{message_id}/feedback"),
    ("DELETE", "/api/messages/{message_id}/feedback"),
    ("GET", "/api/folders"),
    ("GET", "/api/tags"),
    ("GET", "/api/assistants"),
    ("POST", "/api/assistants"),
    ("GET", "/api/assistants/{assistant_id}"),
    ("PATCH", "/api/assistants/{assistant_id}"),
    ("DELETE", "/api/assistants/{assistant_id}"),
    ("POST", "/api/attachments"),
    ("GET", "/api/attachments/{attachment_id}"),
    ("GET", "/api/attachments/{attachment_id}/content"),
    ("DELETE", "/api/attachments/{attachment_id}"),
    ("GET", "/api/runs/{run_id}"),
    ("GET", "/api/runs/{run_id}/events"),
    ("POST", "/api/runs/{run_id}/cancel"),
    ("POST", "/api/runs/{run_id}/read"),
    ("GET", "/api/conversations/{conversation_id}/export"),
    ("GET", "/api/conversations/{conversation_id}/shares"),
    ("POST", "/api/conversations/{conversation_id}/shares"),
    ("GET", "/api/export"),
    ("POST", "/api/imports"),
    ("POST", "/api/runs/{run_id}/tool-calls/{call_id}"),
    ("GET", "/api/shared/{share_id}"),
    ("POST", "/api/shared/{share_id}/copy"),
    ("GET", "/api/shares"),
    ("DELETE", "/api/shares/{share_id}"),
    ("GET", "/api/tool-servers"),
    ("POST", "/api/tool-servers"),
    ("DELETE", "/api/tool-servers/{server_id}"),
    ("GET", "/api/tool-servers/{server_id}"),
    ("PATCH", "/api/tool-servers/{server_id}"),
    ("DELETE", "/api/tool-servers/{server_id}/approvals"),
    ("POST", "/api/tool-servers/{server_id}/test"),
    ("GET", "/api/tool-servers/{server_id}/tools"),
    ("GET", "/api/usage"),
    ("POST", "/api/transcriptions"),
}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "/api/conversations/{conversation_id}"): {"title": "mine now"},
    ("POST", "/api/conversations/{conversation_id}/messages"): {"content": "hello"},
}


def described() -> set[tuple[str, str]]:
    paths = create_app(Settings()).openapi()["paths"]
    return {(method.upper(), path) for path, ways in paths.items() for method in ways}


def test_the_routes_are_those_of_the_contract() -> None:
    assert described() == ROUTES


def check_problem(response: requests.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["detail"].endswith(".")
    return body


@pytest.mark.parametrize("route", sorted(r for r in ROUTES if r[1].startswith("/api")))
def test_without_a_token_nothing_answers(service: Service, route: tuple[str, str]) -> None:
    url = service.url + re.sub(r"\{\w+\}", "conv_x", route[1])
    response = requests.request(route[0], url, json=BODIES.get(route), timeout=5)
    check_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


def test_conversations_are_found_pinned_archived_renamed_and_deleted(user: UserClient) -> None:
    made = [user.create_conversation(f"talk {number}") for number in range(5)]
    follow_to_end(user, user.send(made[1].id, "about Solanum tuberosum", model="echo").run_id)
    assert next(one.id for one in user.conversations().items) == made[1].id
    assert user.update_conversation(made[3].id, pinned=True).pinned
    listed = [one.id for one in user.conversations()]
    assert listed == [made[index].id for index in (3, 1, 4, 2, 0)]

    seen, cursor = [], None
    while True:
        page = user.conversations(cursor=cursor, limit=2)
        seen += [one.id for one in page]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == listed

    assert user.update_conversation(made[0].id, title="Kartoffel 100%_").title == "Kartoffel 100%_"
    assert [one.id for one in user.conversations("kartoffel")] == [made[0].id]
    assert [one.id for one in user.conversations("100%_")] == [made[0].id]
    assert user.conversations("%").items == ()
    assert [one.id for one in user.conversations("solanum")] == [made[1].id]
    user.update_conversation(made[2].id, archived=True)
    assert made[2].id not in [one.id for one in user.conversations()]
    assert [one.id for one in user.conversations(archived=True)] == [made[2].id]
    user.delete_conversation(made[1].id)
    assert user.conversations("solanum").items == ()


def test_messages_come_in_pages_newest_last(user: UserClient) -> None:
    conversation = user.create_conversation()
    for number in range(5):
        follow_to_end(user, user.send(conversation.id, f"n{number}", model="echo").run_id)
    whole = [message.content for message in user.messages(conversation.id)]
    assert whole == [f"n{number}" for number in range(5) for _ in range(2)]
    page = user.messages(conversation.id, limit=4)
    assert [message.content for message in page] == whole[-4:]
    older = user.messages(conversation.id, before=page.next_cursor, limit=4)
    oldest = user.messages(conversation.id, before=older.next_cursor, limit=4)
    assert [message.content for message in (*oldest, *older, *page)] == whole
    assert oldest.next_cursor is None


def refusals() -> list[tuple[str, str, dict[str, Any], int, str]]:
    c = "/api/conversations"
    return [
        ("GET", "/nowhere", {}, 404, "not-found"),
        ("PUT", c, {}, 405, "method-not-allowed"),
        ("POST", c, {"data": "{not json SECRET"}, 422, "invalid-input"),
        ("POST", c, {"json": ["SECRET"]}, 422, "invalid-input"),
        ("POST", c, {"json": {"title": {"SECRET": 1}}}, 422, "invalid-input"),
        ("POST", c, {"json": {"SECRET": 1}}, 422, "invalid-input"),
        ("POST", c, {"json": {"title": "x" * 201}}, 422, "invalid-input"),
        ("POST", c, {"json": {"title": "\x00SECRET"}}, 422, "invalid-input"),
        ("PATCH", f"{c}/x", {"json": {"pinned": None}}, 422, "invalid-input"),
        ("POST", f"{c}/x/messages", {"json": {"content": "  "}}, 422, "invalid-input"),
        ("POST", f"{c}/x/messages", {"json": {"content": "x" * 50_001}}, 422, "invalid-input"),
        (
            "POST",
            f"{c}/x/messages",
            {"json": {"content": "SECRET" * 20_000}},
            413,
            "body-too-large",
        ),
        ("POST", f"{c}/x/messages", {"data": iter([b"x" * 60_000] * 2)}, 413, "body-too-large"),
        ("GET", c, {"params": {"limit": "SECRET"}}, 422, "invalid-input"),
        ("GET", c, {"params": {"cursor": "SECRET"}}, 422, "invalid-input"),
        ("GET", "/api/runs/x/events", {"params": {"after": "-1"}}, 422, "invalid-input"),
    ]


@pytest.mark.parametrize("number", range(len(refusals())))
def test_what_cannot_be_used_is_refused_without_an_echo(
    service: Service, papita: FakePapita, number: int
) -> None:
    method, path, arguments, status, code = refusals()[number]
    headers = {"Authorization": f"Bearer {papita.token_for('ann')}"}
    if "data" in arguments:
        headers["Content-Type"] = "application/json"
    response = requests.request(method, service.url + path, headers=headers, timeout=5, **arguments)
    check_problem(response, status, code)
    assert "SECRET" not in response.text


def test_a_wrong_method_is_told_the_right_ones_and_a_wrong_type_the_right_one(
    service: Service, papita: FakePapita
) -> None:
    headers = {"Authorization": f"Bearer {papita.token_for('ann')}"}
    url = f"{service.url}/api/conversations"
    wrong = requests.put(f"{url}/x", headers=headers, timeout=5)
    check_problem(wrong, 405, "method-not-allowed")
    assert {"DELETE", "GET", "PATCH"} <= set(wrong.headers["allow"].split(", "))
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = requests.post(
            f"{url}/x/messages",
            data='{"content": "hello"}',
            headers={**headers, "Content-Type": kind},
            timeout=5,
        )
        check_problem(answer, 415, "unsupported-media-type")


def forged(papita: FakePapita) -> dict[str, str]:
    """Tokens that must not open anything."""
    claims = papita.claims("ann")
    other = Ed25519PrivateKey.generate()
    good = papita.token_for("ann")
    head, body, signature = good.split(".")

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    public = papita.key.public_key().public_bytes_raw()
    tokens = {
        f"without {name}": papita.sign({k: v for k, v in claims.items() if k != name})
        for name in claims
    }
    headers = {"typ": "at+jwt", "kid": papita.kid}
    tokens |= {
        "expired": papita.token_for("ann", exp=int(time.time()) - 30),
        "from the future": papita.token_for("ann", iat=int(time.time()) + 600),
        "other audience": papita.token_for("ann", aud="ai-resume"),
        "list of audiences": papita.token_for("ann", aud=["al-chat", "x"]),
        "other issuer": papita.token_for("ann", iss="https://evil.example"),
        "other scope": papita.token_for("ann", scope="credential:use"),
        "scope as a list": papita.token_for("ann", scope=["chat"]),
        "subject as a number": papita.token_for("ann", sub=1),
        "empty session": papita.token_for("ann", sid=""),
        "session and access token": papita.token_for("ann", pat="token-1"),
        "typ JWT": papita.sign(claims, typ="JWT"),
        "no typ": jwt.encode(
            claims, papita.key, algorithm="EdDSA", headers={"typ": None, "kid": papita.kid}
        ),
        "unknown kid": papita.sign(claims, kid="key-99"),
        "kid as a number": part({"alg": "EdDSA", "typ": "at+jwt", "kid": 1})
        + f".{body}.{signature}",
        "other key": jwt.encode(claims, other, algorithm="EdDSA", headers=headers),
        "HS256 with the public key": jwt.encode(claims, public, algorithm="HS256", headers=headers),
        "alg none": part({"alg": "none", **headers}) + f".{body}.",
        "changed body": f"{head}.{part({**claims, 'sub': 'user-bob'})}.{signature}",
        "no signature": f"{head}.{body}.",
        "cut": good[:-3],
        "very long": good + "A" * 10_000,
        "nonsense": "x.y.z",
    }
    return tokens


def test_no_forged_token_opens_anything(service: Service, papita: FakePapita) -> None:
    url = service.url + "/api/conversations"
    for name, token in forged(papita).items():
        response = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=5)
        assert response.status_code == 401, name
        assert token not in response.text
    for header in ("", "Bearer", "Basic eDp5", papita.token_for("ann")):
        response = requests.get(url, headers={"Authorization": header}, timeout=5)
        assert response.status_code == 401
    good = {"Authorization": f"Bearer {papita.token_for('ann')}"}
    assert requests.get(url, headers=good, timeout=5).status_code == 200


def test_unknown_key_ids_do_not_flood_papita(service: Service, papita: FakePapita) -> None:
    reads = papita.jwks_reads
    for number in range(30):
        token = papita.sign(papita.claims("ann"), kid=f"key-{number + 100}")
        requests.get(
            service.url + "/api/conversations",
            headers={"Authorization": f"Bearer {token}"},
            timeout=5,
        )
    assert papita.jwks_reads <= reads + 1


def test_ready_tells_whether_papita_can_be_reached(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service(PAPITA_API_URL="http://127.0.0.1:9")
    check_problem(requests.get(service.url + "/readyz", timeout=5), 503, "papita-unreachable")
    client = AlChatClient(service.url)
    health = client.health()
    assert health.state == "not-ready"
    assert "Papita" in health.reason
    with pytest.raises(Unavailable):
        client.as_user(lambda: papita.token_for("ann")).conversations()
    service.stop()
    assert client.health().state == "unreachable"
    client.close()


def test_models_tell_the_fault_of_the_key(
    user: UserClient, papita: FakePapita, client: AlChatClient
) -> None:
    assert user.models()[:2] == ("demo", "demo-fast")
    papita.behaviour = "vault-sealed"
    other = client.as_user(lambda: papita.token_for("sealed-out"))
    with pytest.raises(Unavailable) as refused:
        other.models()
    assert refused.value.code == "vault-sealed"
    with pytest.raises(NotSignedIn):
        client.as_user(lambda: "nonsense").models()


def test_the_api_description_is_tidy() -> None:
    described = create_app(Settings()).openapi()
    for path, ways in described["paths"].items():
        for method, way in ways.items():
            assert way["summary"], (method, path)
            if path.startswith("/api"):
                assert way["security"] == [{"userToken": []}], (method, path)


def test_no_secret_is_in_the_database_or_the_log(
    service: Service, user: UserClient, papita: FakePapita, username: str
) -> None:
    ask(user, "echo", "my private words")
    ask(user, "error-401")
    papita.behaviour = "invalid-client"
    ask(user, "echo")
    papita.api_key = CANARY_KEY + "\n"
    token = papita.token_for(username)
    secrets = [CANARY_KEY, CLIENT[1], token, token.split(".")[2]]
    forms = {form for secret in secrets for form in _forms(secret)}
    files = [file for file in Path(service.folder).rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"alchat.db", "alchat.log"}
    for file in files:
        raw = file.read_bytes()
        for form in forms:
            assert form not in raw, (file.name, form)
    assert b"my private words" not in service.log.read_bytes()


def _forms(secret: str) -> list[bytes]:
    raw = secret.encode()
    return [raw, base64.b64encode(raw).rstrip(b"=")[:-2], raw.hex().encode()]


def test_a_token_that_rests_on_an_access_token_opens(service: Service, papita: FakePapita) -> None:
    """A script's user token names its personal access token in place of a sign-in session."""
    claims = papita.claims("ann") | {"pat": "token-1"}
    del claims["sid"]
    headers = {"Authorization": f"Bearer {papita.sign(claims)}"}
    answer = requests.get(f"{service.url}/api/conversations", headers=headers, timeout=10)
    assert answer.status_code == 200
