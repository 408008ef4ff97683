"""The REST API as its callers meet it: shapes, headers, codes."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator

import pytest
import requests
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from papita_core.api.app import create_api
from papita_core.credential_types import CREDENTIAL_TYPES
from tests.papita_core.house import CLIENT_SECRET, KEY, House

CLIENT = ("al-chat", CLIENT_SECRET)
VIEW = {
    *("id", "label", "credentialType", "projectId", "hint", "baseUrl", "expiresAt", "createdAt"),
    *("updatedAt", "lastUsedAt", "lastUsedBy", "status", "checkedAt"),
    *("disabled", "blocked", "shared", "budget"),
}


@pytest.fixture
def api(house: House) -> TestClient:
    house.sign_in("ana")
    client = house.api()
    client.headers["Authorization"] = f"Bearer {house.access_token('ana')}"
    return client


def store(api: TestClient, **more: object) -> tuple[str, str]:
    """The path and ETag of a new credential."""
    body = {"credentialType": "openai", "credentials": {"api_key": KEY}, **more}
    answer = api.post("/api/credentials", json=body)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"], answer.headers["ETag"]


def problem(answer: object, status: int, code: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text  # type: ignore[attr-defined]
    assert answer.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    assert answer.headers["cache-control"] == "no-store"  # type: ignore[attr-defined]
    body: dict[str, object] = answer.json()  # type: ignore[attr-defined]
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
    return body


def test_storing_answers_with_the_place_the_etag_and_no_key(api: TestClient):
    answer = api.post(
        "/api/credentials",
        json={
            "credentialType": "openai",
            "credentials": {"api_key": KEY},
            "projectId": "al-chat",
            "label": "mine",
            "baseUrl": "https://ai.example/v1",
            "expiresAt": "2090-01-31T00:00:00+01:00",
        },
    )
    assert answer.status_code == 201
    view = answer.json()["credentials"]
    assert set(view) == VIEW
    assert answer.headers["location"] == f"/api/credentials/{view['id']}"
    assert re.fullmatch(r'"[^"]+"', answer.headers["etag"])
    assert answer.headers["cache-control"] == "no-store"
    assert (view["label"], view["projectId"], view["hint"]) == ("mine", "al-chat", "••••cdef")
    assert view["expiresAt"] == "2090-01-30T23:00:00Z"
    assert KEY not in answer.text
    assert api.get(answer.headers["location"]).json() == answer.json()


def test_one_is_an_object_and_many_are_a_list(api: TestClient):
    path, etag = store(api)
    store(api)
    one = api.get(path)
    assert one.headers["etag"] == etag
    assert set(one.json()) == {"credentials"}
    page = api.get("/api/credentials", params={"limit": 1}).json()
    assert page["credentials"] == [one.json()["credentials"]]
    rest = api.get("/api/credentials", params={"cursor": page["nextCursor"]}).json()
    assert (len(rest["credentials"]), rest["nextCursor"]) == (1, None)


def test_changes_need_the_etag_that_is_in_force(api: TestClient):
    path, etag = store(api)
    body = {"label": "other"}
    problem(api.put(path, json=body), 428, "precondition-required")
    problem(api.delete(path), 428, "precondition-required")
    changed = api.put(path, json=body, headers={"If-Match": etag})
    assert changed.status_code == 200
    assert changed.json()["credentials"]["label"] == "other"
    fresh = changed.headers["etag"]
    assert fresh != etag
    problem(api.put(path, json=body, headers={"If-Match": etag}), 412, "precondition-failed")
    problem(api.delete(path, headers={"If-Match": etag}), 412, "precondition-failed")
    gone = api.delete(path, headers={"If-Match": fresh})
    assert (gone.status_code, gone.content) == (204, b"")
    problem(api.get(path), 404, "credential-not-found")


def test_a_new_origin_needs_the_key(api: TestClient):
    path, etag = store(api)
    moved = {"baseUrl": "https://evil.example/v1"}
    body = problem(api.put(path, json=moved, headers={"If-Match": etag}), 422, "secret-required")
    assert body["errors"] == [
        {"field": "credentials", "detail": "Enter the key again: a new base URL needs it."}
    ]


def test_a_repeated_request_is_answered_alike(api: TestClient):
    body = {"credentialType": "openai", "credentials": {"api_key": KEY}}
    key = {"Idempotency-Key": "once"}
    first = api.post("/api/credentials", json=body, headers=key)
    again = api.post("/api/credentials", json=body, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["etag"] == first.headers["etag"]
    other = api.post("/api/credentials", json={**body, "label": "x"}, headers=key)
    problem(other, 422, "idempotency-mismatch")


def test_a_repetition_while_the_first_request_is_served_is_told_when_to_come_back(
    house: House, api: TestClient
):
    ana = house.papita.users.by_username("ana")
    assert ana is not None
    name = f"create {ana.id} {hashlib.sha256(b'once').hexdigest()}"
    body = {"credentialType": "openai", "credentials": {"api_key": KEY}}
    api.get("/api/credentials")  # the token's use is noted, which would wait for the first request
    entered, done = threading.Event(), threading.Event()

    def first() -> None:
        with house.papita.database.write_alone(name):
            entered.set()
            done.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert entered.wait(30)
        answer = api.post("/api/credentials", json=body, headers={"Idempotency-Key": "once"})
    finally:
        done.set()
        thread.join()
    problem(answer, 409, "idempotency-in-flight")
    assert answer.headers["retry-after"] == "1"
    again = api.post("/api/credentials", json=body, headers={"Idempotency-Key": "once"})
    assert again.status_code == 201


def test_a_new_key_is_tested_before_it_replaces_the_old_one(house: House, provider: str):
    house.environment["PAPITA_PROVIDER_ALLOWLIST"] = provider
    ana = house.sign_in("ana")
    token = house.project_token(ana)
    api = house.api()
    api.headers["Authorization"] = f"Bearer {house.access_token('ana')}"
    path, etag = store(api, baseUrl=f"{provider}/v1")
    wrong = {"baseUrl": f"{provider}/v1", "credentials": {"api_key": "sk-of-nobody-0123456"}}
    stale = api.put(path, json=wrong, headers={"If-Match": '"x"'}, params={"testFirst": "true"})
    problem(stale, 412, "precondition-failed")
    refused = api.put(path, json=wrong, headers={"If-Match": etag}, params={"testFirst": "true"})
    body = problem(refused, 409, "test-failed")
    assert body["test"] == {"status": "rejected"}
    assert "The old key is still in force." in str(body["detail"])
    assert "sk-of-nobody" not in refused.text
    assert house.lend(token, "ana").secret == {"api_key": KEY}
    assert api.get(path).headers["etag"] == etag
    right = {**wrong, "credentials": {"api_key": KEY + "-new"}}
    changed = api.put(path, json=right, headers={"If-Match": etag}, params={"testFirst": "true"})
    assert changed.json()["credentials"]["status"] == "ok"
    assert changed.json()["credentials"]["checkedAt"] is not None
    assert house.lend(token, "ana").secret == {"api_key": KEY + "-new"}
    renamed = {"baseUrl": f"{provider}/v1", "label": "kept"}
    etag = changed.headers["etag"]
    kept = api.put(path, json=renamed, headers={"If-Match": etag}, params={"testFirst": "true"})
    assert kept.json()["credentials"]["label"] == "kept"
    forced = api.put(path, json=wrong, headers={"If-Match": kept.headers["etag"]})
    assert forced.json()["credentials"]["status"] == "untested"


def test_a_credential_is_switched_off_and_on(api: TestClient):
    path, etag = store(api)
    problem(api.post(f"{path}/disable"), 428, "precondition-required")
    off = api.post(f"{path}/disable", headers={"If-Match": etag})
    view = off.json()["credentials"]
    assert (view["disabled"], view["status"]) == (True, "disabled")
    stale = api.post(f"{path}/enable", headers={"If-Match": etag})
    problem(stale, 412, "precondition-failed")
    on = api.post(f"{path}/enable", headers={"If-Match": off.headers["etag"]})
    assert on.json()["credentials"]["disabled"] is False
    assert api.get(path).headers["etag"] == on.headers["etag"]


def test_an_administrator_shares_by_name(house: House):
    ada = house.sign_in("ada", "administrator")
    house.user("ben")
    api = house.api()
    api.headers.update({**house.cookie("ada"), "Sec-Fetch-Site": "same-origin"})
    info = house.key(ada)
    path = f"/api/credentials/{info.id}/shares"
    problem(api.put(path, json={"everybody": True}), 428, "precondition-required")
    unknown = {"usernames": ["ben", "sk-canary"]}
    refused = api.put(path, json=unknown, headers={"If-Match": info.etag})
    body = problem(refused, 422, "invalid-input")
    assert [item["field"] for item in body["errors"]] == ["usernames"]  # type: ignore[attr-defined]
    assert "canary" not in refused.text
    shared = api.put(path, json={"usernames": ["Ben"]}, headers={"If-Match": info.etag})
    assert shared.json()["credentials"]["shared"] == "named"
    found = api.get(path)
    assert found.json() == {"everybody": False, "usernames": ["ben"]}
    assert found.headers["etag"] == shared.headers["etag"]
    ended = api.put(path, json={}, headers={"If-Match": shared.headers["etag"]})
    assert ended.json()["credentials"]["shared"] == "nobody"


def test_the_types_are_told_to_every_caller(house: House, api: TestClient):
    house.user("gus", "guest")
    guest = {"Authorization": f"Bearer {house.access_token('gus', 'projects:launch')}"}
    answer = api.get("/api/credential-types", headers=guest)
    types = {item["id"]: item for item in answer.json()["credentialTypes"]}
    assert list(types) == list(CREDENTIAL_TYPES)
    openai = types["openai"]
    assert openai["defaultBaseUrl"] == "https://api.openai.com/v1"
    assert [item["name"] for item in openai["fields"]] == ["api_key", "organization", "project"]
    assert (types["vllm"]["baseUrlRequired"], types["generic"]["ownFields"]) == (True, True)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/jsonp", ""])
def test_a_body_of_another_type_is_told_so(api: TestClient, kind: str):
    answer = api.post("/api/credentials", content=b"{}", headers={"Content-Type": kind})
    problem(answer, 415, "unsupported-media-type")
    wrong = api.post(
        "/api/credentials", content=b'"x"', headers={"Content-Type": "application/json"}
    )
    problem(wrong, 422, "invalid-input")


def test_a_test_says_how_the_key_does(house: House, provider: str):
    house.environment["PAPITA_PROVIDER_ALLOWLIST"] = provider
    house.sign_in("ana")
    api = house.api()
    api.headers["Authorization"] = f"Bearer {house.access_token('ana')}"
    path, _ = store(api, baseUrl=f"{provider}/v1")
    answer = api.post(f"{path}/test")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert set(answer.json()) == {"status", "checkedAt", "detail"}
    assert api.get(path).json()["credentials"]["status"] == "ok"


def test_launching_gives_a_token_and_an_address_or_the_reason(house: House, api: TestClient):
    answer = api.post("/api/projects/al-chat/launch")
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"projectId", "token", "expiresAt", "url"}
    assert (body["projectId"], body["url"]) == ("al-chat", "http://127.0.0.1:8000/al-chat")
    house.papita.user_tokens.verify(body["token"], "al-chat")
    assert answer.headers["cache-control"] == "no-store"
    house.runner.reason = "The service does not start: port 8000 is taken."
    failed = problem(api.post("/api/projects/al-chat/launch"), 503, "project-unavailable")
    assert failed["detail"] == house.runner.reason
    for name in ("ai-resume", "nothing"):
        problem(api.post(f"/api/projects/{name}/launch"), 404, "not-found")


def exchanged(api: TestClient, user_token: str, **more: str) -> object:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": user_token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "scope": "credential:use",
        "credential_type": "openai",
        **more,
    }
    return api.post("/api/token", data=form, auth=CLIENT)


def test_a_user_token_is_exchanged_as_rfc_8693_says(api: TestClient):
    user_token = api.post("/api/projects/al-chat/launch").json()["token"]
    answer = exchanged(api, user_token)
    assert answer.status_code == 200  # type: ignore[attr-defined]
    body = answer.json()  # type: ignore[attr-defined]
    assert set(body) == {"access_token", "issued_token_type", "token_type", "expires_in"}
    assert body["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 300)
    assert answer.headers["cache-control"] == "no-store"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"credential_type": "aws"}, "invalid_scope"),
        ({"subject_token": "x.y.z"}, "invalid_grant"),
    ],
)
def test_refused_exchanges_carry_the_error_of_oauth(
    api: TestClient, wrong: dict[str, str], error: str
):
    user_token = api.post("/api/projects/al-chat/launch").json()["token"]
    body = problem(exchanged(api, user_token, **wrong), 400, "invalid-token-request")
    assert body["error"] == error
    assert user_token not in str(body)


def test_a_client_that_is_not_known_gets_no_answer_whatever_its_form_says(api: TestClient):
    del api.headers["Authorization"]
    answers = [
        api.post("/api/token", data=form, auth=auth)
        for form in ({}, {"grant_type": "x"})
        for auth in (None, ("al-chat", "wrong"), ("other", CLIENT_SECRET))
    ]
    for answer in answers:
        assert problem(answer, 401, "invalid-client")["error"] == "invalid_client"
        assert answer.headers["www-authenticate"] == 'Basic realm="papita"'
    assert len({answer.content for answer in answers}) == 1


def test_consent_is_missing_for_a_session_that_gave_none(house: House, api: TestClient):
    headers = {**house.cookie("ana"), "Sec-Fetch-Site": "same-origin", "Authorization": ""}
    launched = api.post("/api/projects/al-chat/launch", headers=headers)
    problem(exchanged(api, launched.json()["token"]), 403, "consent-required")


def test_keys_are_published(api: TestClient):
    del api.headers["Authorization"]
    answer = api.get("/api/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert {key["alg"] for key in answer.json()["keys"]} == {"EdDSA"}


def test_absent_and_foreign_are_the_same_byte_for_byte(house: House, api: TestClient):
    path, etag = store(api)
    house.sign_in("eve", "administrator")
    eve = {"Authorization": f"Bearer {house.access_token('eve')}", "If-Match": etag}
    absent = "/api/credentials/00000000-0000-4000-8000-000000000000"
    for method, more in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/test")):
        body = {"label": "x"} if method == "PUT" else None
        answers = [
            api.request(method, place + more, json=body, headers=eve) for place in (path, absent)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content
        assert dict(answers[0].headers) == dict(answers[1].headers)


def test_what_is_no_route_or_method_is_a_problem_too(api: TestClient):
    problem(api.get("/api/nothing"), 404, "not-found")
    problem(api.patch("/api/credentials"), 405, "method-not-allowed")


def test_a_sealed_vault_answers_503_and_lists(house: House):
    house.key(house.sign_in("ana"))
    token = house.access_token("ana")
    (house.settings().keys_dir / "master.key").unlink()
    api = house.api(house.opened())
    api.headers["Authorization"] = f"Bearer {token}"
    (view,) = api.get("/api/credentials").json()["credentials"]
    body = {"credentialType": "openai", "credentials": {"api_key": KEY}}
    answers = [
        api.post("/api/credentials", json=body),
        api.post(f"/api/credentials/{view['id']}/test"),
        api.delete(f"/api/credentials/{view['id']}", headers={"If-Match": "*"}),
        api.post("/api/projects/al-chat/launch"),
    ]
    for answer in answers:
        problem(answer, 503, "vault-sealed")
    assert api.get("/api/.well-known/jwks.json").status_code == 200


def test_the_description_leads_from_a_stored_credential_to_what_can_be_done_with_it(
    api: TestClient,
):
    described = api.get("/api/openapi.json").json()
    operations = [item for path in described["paths"].values() for item in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    links = described["paths"]["/credentials"]["post"]["responses"]["201"]["links"]
    assert {"GetCredential", "ReplaceCredential", "DeleteCredential", "TestCredential"} <= set(
        links
    )
    by_id = {operation["operationId"]: operation for operation in operations}
    for link in links.values():
        takes = {parameter["name"] for parameter in by_id[link["operationId"]]["parameters"]}
        assert set(link["parameters"]) <= takes
    for operation in operations:
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"]


def test_the_description_lists_every_route_and_no_secret(api: TestClient):
    described = api.get("/api/openapi.json").json()
    paths = {(m.upper(), path) for path, item in described["paths"].items() for m in item}
    assert ("GET", "/credentials") in paths
    assert ("POST", "/token") in paths
    assert re.search(r"sk-[a-z0-9]{6}|papita_(pat|lease)_\w", str(described)) is None


# --- a real server, and the client of the integration plan ---


@pytest.fixture
def served(house: House) -> Iterator[str]:
    root = FastAPI(openapi_url=None)
    root.mount("/api", create_api(house.papita, runner=house.runner))
    config = uvicorn.Config(root, port=0, log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def get_openai_key(username: str, token: str | None) -> tuple[int, str | None]:
    """The client of the integration plan, with an Authorization header, and the status."""
    response = requests.get(
        f"{os.environ['PAPITA_API_URL']}/api/credentials",
        params={"username": username, "credentialType": "openai", "projectId": "al-chat"},
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=10,
    )
    if response.status_code == 200:
        data = response.json()
        return 200, data["credentials"]["credentials"].get("api_key")
    return response.status_code, None


def test_the_client_of_the_integration_plan_gets_the_key_and_nobody_else(
    house: House, served: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PAPITA_API_URL", served)
    ana = house.sign_in("ana")
    house.key(house.sign_in("ben"))
    pat = {"Authorization": f"Bearer {house.access_token('ana')}"}
    body = {"credentialType": "openai", "credentials": {"api_key": KEY}}
    stored = requests.post(f"{served}/api/credentials", json=body, headers=pat, timeout=10)
    assert stored.status_code == 201
    user_token = house.papita.projects.user_token(ana, "al-chat").token
    token = house.project_token(ana)
    assert get_openai_key("ana", token) == (200, KEY)
    assert get_openai_key("ana", None) == (401, None)
    assert get_openai_key("ben", token) == (404, None)
    assert get_openai_key("nobody", token) == (404, None)
    assert get_openai_key("ana", user_token) == (401, None)
    assert get_openai_key("ana", house.access_token("ana")) == (401, None)
    house.papita.grants.revoke(ana, "al-chat")
    assert get_openai_key("ana", token) == (403, None)


def test_a_loan_has_the_shape_of_the_contract(house: House, served: str):
    ana = house.sign_in("ana")
    info = house.key(ana)
    answer = requests.get(
        f"{served}/api/credentials",
        params={"username": "ana", "credentialType": "openai", "projectId": "al-chat"},
        headers={"Authorization": f"Bearer {house.project_token(ana)}"},
        timeout=10,
    )
    assert answer.status_code == 200
    body = answer.json()
    assert body["credentials"] == {
        "id": info.id,
        "credentialType": "openai",
        "projectId": None,
        "baseUrl": "https://api.openai.com/v1",
        "credentials": {"api_key": KEY},
    }
    assert set(body["lease"]) == {"id", "expiresAt"}
    assert answer.headers["cache-control"] == "no-store"
