"""No answer repeats what was sent, wherever somebody may have put a key by mistake."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from tests.papita_core.house import CLIENT_SECRET, KEY, House

CANARY = "sk-canary-0123456789abcdef"
FORM = ("grant_type", "subject_token", "subject_token_type", "scope", "credential_type")
GOOD: dict[str, Any] = {"credentialType": "openai", "credentials": {"api_key": KEY}}


@pytest.fixture(scope="module")
def api(shared_house: House) -> TestClient:
    shared_house.sign_in("ana")
    client = shared_house.api()
    client.headers["Authorization"] = f"Bearer {shared_house.access_token('ana')}"
    return client


BODIES: dict[str, Any] = {
    "a sibling is missing": {"credentials": {"api_key": CANARY}},
    "the key alone": {"api_key": CANARY},
    "a text": CANARY,
    "a list": [CANARY],
    "a number": 12345678901234567890,
    "nothing": None,
    "the key as credentials": {**GOOD, "credentials": CANARY},
    "a list as credentials": {**GOOD, "credentials": [CANARY]},
    "the key as a name": {**GOOD, CANARY: "x"},
    "the key as a name inside": {**GOOD, "credentials": {CANARY: "x"}},
    "the key as a name inside, for no text": {**GOOD, "credentials": {CANARY: 5}},
    "the key as a name inside, for a nest": {**GOOD, "credentials": {CANARY: {CANARY: [CANARY]}}},
    "a key that is no text": {**GOOD, "credentials": {"api_key": [CANARY]}},
    "a key that is too long": {**GOOD, "credentials": {"api_key": CANARY * 300}},
    "a key with spaces": {**GOOD, "credentials": {"api_key": f"{CANARY} {CANARY}"}},
    **{
        f"the key as {field}": {**GOOD, field: CANARY}
        for field in ("credentialType", "projectId", "baseUrl", "expiresAt", "label ")
    },
    **{
        f"no text as {field}": {**GOOD, field: {CANARY: CANARY}}
        for field in ("credentialType", "projectId", "baseUrl", "expiresAt", "label")
    },
    **{
        f"too much as {field}": {**GOOD, field: CANARY * 300}
        for field in ("credentialType", "projectId", "baseUrl", "expiresAt", "label")
    },
    "an address with it as a name": {**GOOD, "baseUrl": f"https://{CANARY}@ai.example"},
    "an address with it as a port": {**GOOD, "baseUrl": f"https://ai.example:{CANARY}"},
    "an address with it in brackets": {**GOOD, "baseUrl": f"https://[{CANARY}]"},
    "an address with it and a sign": {**GOOD, "baseUrl": f"https://{CANARY}\u2100.example"},
    "an address with it in a query": {**GOOD, "baseUrl": f"https://ai.example?{CANARY}"},
    "a time without a zone": {**GOOD, "expiresAt": "2090-01-01T00:00:00", "label": CANARY * 9},
    "a time beyond all times": {**GOOD, "expiresAt": "9999-12-31T23:59:59-12:00"},
}


def refused(answer: Any, statuses: tuple[int, ...] = (400, 415, 422)) -> None:
    assert answer.status_code in statuses, answer.text
    sent = (CANARY, CANARY[3:], "0123456789abcdef", "12345678901234567890")
    for text in (answer.text, str(dict(answer.headers)), json.dumps(answer.json())):
        assert not [part for part in sent if part in text]
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_that_does_not_fit_is_not_repeated(api: TestClient, body: Any):
    refused(api.post("/api/credentials", json=body))
    stored = api.post("/api/credentials", json=GOOD)
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "credentialType"} | {
            "unknown": 1
        }
    refused(api.put(stored.headers["Location"], json=body, headers={"If-Match": "*"}))


RAW = {
    "no JSON": (f'{{"api_key": {CANARY}', "application/json"),
    "JSON that breaks off": (f'{{"api_key": "{CANARY}', "application/json"),
    "a deep nest": ("[" * 20_000 + CANARY, "application/json"),
    "a long number": ('{"label": ' + "9" * 5_000 + "}", "application/json"),
    "no number": (f'{{"label": NaN, "x": "{CANARY}"}}', "application/json"),
    "no UTF-8": (b'{"label": "\xff' + CANARY.encode(), "application/json"),
    "half a character": (
        json.dumps({**GOOD, "label": "\ud800" + CANARY}),
        "application/json",
    ),
    "a form": (f"api_key={CANARY}", "application/x-www-form-urlencoded"),
    "parts": (f"--x\r\n\r\n{CANARY}\r\n--x--", "multipart/form-data; boundary=x"),
    "text": (json.dumps({**GOOD, "label": CANARY}), "text/plain"),
    "no type": (json.dumps({**GOOD, "label": CANARY}), ""),
    "nothing": ("", "application/json"),
}


@pytest.mark.parametrize(("body", "kind"), RAW.values(), ids=RAW.keys())
def test_what_is_no_json_is_not_repeated(api: TestClient, body: str | bytes, kind: str):
    refused(api.post("/api/credentials", content=body, headers={"Content-Type": kind}))


@pytest.mark.parametrize(
    "query",
    [
        {"limit": CANARY},
        {"limit": "0"},
        {"cursor": CANARY},
        {"cursor": CANARY * 9},
        {"username": CANARY * 9},
        {"projectId": CANARY * 9},
    ],
)
def test_a_query_that_does_not_fit_is_not_repeated(api: TestClient, query: dict[str, str]):
    refused(api.get("/api/credentials", params=query))


def test_headers_and_paths_are_not_repeated(api: TestClient):
    key = {"Idempotency-Key": CANARY * 20}
    refused(api.post("/api/credentials", json=GOOD, headers=key))
    refused(api.get(f"/api/credentials/{CANARY}"), (404,))
    refused(api.get(f"/api/{CANARY}"), (404,))
    refused(api.post(f"/api/projects/{CANARY}/launch"), (404,))
    refused(api.delete("/api/credentials/x", headers={"If-Match": CANARY}), (404,))
    refused(api.delete("/api/credentials/x", headers={"If-Match": CANARY * 9}), (422,))
    refused(api.get("/api/credentials", headers={"Authorization": f"Bearer {CANARY}"}), (401,))
    refused(api.request(CANARY[:9].upper(), "/api/credentials"), (405,))
    assert CANARY not in api.get("/api/credentials/%00").text
    refused(api.get("/api/credentials/%00"), (404,))


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"subject_token": CANARY},
        {"grant_type": CANARY, "subject_token": CANARY, CANARY: CANARY},
        dict.fromkeys(
            ("grant_type", "subject_token", "subject_token_type", "scope", "credential_type"),
            CANARY,
        ),
        dict.fromkeys(
            ("grant_type", "subject_token", "subject_token_type", "scope", "credential_type"),
            CANARY * 500,
        ),
    ],
)
def test_a_token_request_that_does_not_fit_is_not_repeated(api: TestClient, form: dict[str, str]):
    refused(api.post("/api/token", data=form, auth=("al-chat", CLIENT_SECRET)))
    refused(api.post("/api/token", data=form, auth=(CANARY, CANARY)), (401,))


def test_an_error_of_ours_says_nothing(
    shared_house: House, api: TestClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shared_house.papita.database, "write", None)
    body = {**GOOD, "credentials": {"api_key": CANARY}}
    answer = api.post("/api/credentials", json=body)
    assert answer.json()["code"] == "internal-error"
    refused(answer, (500,))


def test_a_tracer_in_the_process_gets_nothing(
    shared_house: House, api: TestClient, monkeypatch: pytest.MonkeyPatch
):
    """FastAPI traces by itself, with what did not fit, wherever OpenTelemetry is set up."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    headers = {"Authorization": api.headers["Authorization"]}
    refused(shared_house.api().post("/api/credentials", json={"api_key": CANARY}, headers=headers))
    assert spans.get_finished_spans() == ()
