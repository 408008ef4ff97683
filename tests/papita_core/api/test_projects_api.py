"""What projects ask and what is asked about them: token requests, loans that ended, which key."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from papita_core.actors import Actor
from tests.papita_core.house import CLIENT_SECRET, House

CLIENT = ("al-chat", CLIENT_SECRET)
FORM = "application/x-www-form-urlencoded"
CANARY = "sk-canary-0123456789abcdef"
MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def form(house: House) -> dict[str, str]:
    """A token request that is granted."""
    ana = house.sign_in("ana")
    house.papita.grants.allow(ana, "al-chat")
    return {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": house.papita.projects.user_token(ana, "al-chat").token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "scope": "credential:use",
        "credential_type": "openai",
    }


def ask(api: TestClient, body: str, kind: str = FORM) -> Any:
    return api.post("/api/token", content=body, headers={"Content-Type": kind}, auth=CLIENT)


def invalid(answer: Any) -> None:
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-token-request")
    assert answer.json()["error"] == "invalid_request"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "name", ["grant_type", "subject_token", "subject_token_type", "scope", "credential_type"]
)
def test_each_field_is_there_once_and_not_empty(house: House, form: dict[str, str], name: str):
    api = house.api()
    rest = {field: value for field, value in form.items() if field != name}
    for body in (
        urlencode(rest),
        urlencode({**rest, name: ""}),
        urlencode([*form.items(), (name, form[name])]),
        urlencode([*form.items(), (name, CANARY)]),
        urlencode({**rest, name: CANARY * 400}),
    ):
        answer = ask(api, body)
        invalid(answer)
        assert name in answer.json()["detail"]
        assert CANARY not in answer.text
        assert form["subject_token"] not in answer.text


def test_fields_that_are_not_known_are_ignored_even_twice(house: House, form: dict[str, str]):
    more = [("audience", "x"), ("audience", "y"), ("resource", ""), ("", "z")]
    answer = ask(house.api(), urlencode([*form.items(), *more]), f"{FORM}; charset=utf-8")
    assert answer.status_code == 200, answer.text
    assert answer.json()["access_token"].startswith("papita_lease_")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", "{}"),
        ("multipart/form-data; boundary=x", "--x--"),
        ("text/plain", ""),
        ("", ""),
        (FORM, ""),
        (FORM, "&&&="),
        (FORM, "%"),
        (FORM, "%ff=%ff"),
    ],
)
def test_another_body_is_an_invalid_request(house: House, kind: str, body: str):
    invalid(ask(house.api(), body, kind))


def test_what_cannot_be_a_token_is_an_invalid_grant(house: House, form: dict[str, str]):
    for value in ("x", "%ff%00", "%ed%a0%80", "a.b.c"):
        body = urlencode({**form, "subject_token": ""}).replace(
            "subject_token=&", f"subject_token={value}&"
        )
        answer = ask(house.api(), body)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_a_project_that_is_switched_off_is_refused_everywhere(house: House, form: dict[str, str]):
    api = house.api()
    house.papita.projects.set_disabled(Actor.operator(), "al-chat", True)
    house.runner.reason = "It was started all the same."
    token = {"Authorization": f"Bearer {house.access_token('ana')}"}
    for answer in (
        ask(api, urlencode(form)),
        api.post("/api/projects/al-chat/launch", headers=token),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "project-disabled")
    explained = api.get("/api/projects/al-chat/credential", headers=token).json()
    assert explained["code"] == "project-disabled"


# --- loans that have ended ---


def test_a_project_is_told_which_loans_have_ended(house: House):
    ana = house.sign_in("ana")
    info = house.key(ana)
    token = house.project_token(ana)
    lease = house.lend(token, "ana").lease_id
    api = house.api()
    loans = {"leases": [{"id": lease, "credentialId": info.id}]}
    answer = api.post("/api/leases/check", json=loans, auth=CLIENT)
    assert (answer.status_code, answer.json()) == (200, {"ended": []})
    assert answer.headers["cache-control"] == "no-store"
    house.papita.grants.revoke(ana, "al-chat")
    (ended,) = api.post("/api/leases/check", json=loans, auth=CLIENT).json()["ended"]
    assert (ended["id"], ended["credentialId"]) == (lease, info.id)
    assert ended["code"] == "consent-required"
    assert set(ended) == {"id", "credentialId", "code", "detail"}


def test_a_question_about_loans_has_a_size_and_a_form(house: House):
    api = house.api()

    def status(body: object) -> int:
        answer = api.post("/api/leases/check", json=body, auth=CLIENT)
        assert CANARY not in answer.text
        return int(answer.status_code)

    one = {"id": MISSING, "credentialId": MISSING}
    assert status({"leases": [one] * 500}) == 200
    assert status({"leases": [one] * 501}) == 422
    assert status({"leases": []}) == 200
    for bad in (
        {},
        {"leases": one},
        {"leases": [{"id": MISSING}]},
        {"leases": [{**one, "id": CANARY}]},
        {"leases": [{**one, "id": MISSING + "\n"}]},
        {"leases": [{**one, "credentialId": "\0" * 36}]},
        {"leases": [{**one, "more": CANARY}]},
        {"leases": [one], CANARY: 1},
    ):
        assert status(bad) == 422


def test_only_a_project_asks_about_loans(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    api = house.api()
    for headers in (
        {},
        {"Authorization": f"Bearer {house.access_token('ana')}"},
        {"Authorization": f"Bearer {house.project_token(ana)}"},
        {"Authorization": "Basic YWwtY2hhdDp3cm9uZw=="},
    ):
        answer = api.post("/api/leases/check", json={"leases": []}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid-client")


# --- lending and explaining ---


def test_a_loan_takes_the_name_of_the_run(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    api = house.api()
    sent = {"Authorization": f"Bearer {house.project_token(ana)}"}
    query = {"username": "ana", "credentialType": "openai", "projectId": "al-chat"}

    def lend(run_id: str) -> Any:
        return api.get("/api/credentials", params={**query, "runId": run_id}, headers=sent)

    assert lend("run 1").status_code == 200
    for bad in ("x" * 65, "rün", "a\nb", ""):
        answer = lend(bad)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
        assert answer.json()["errors"][0]["field"] == "runId"
    (read,) = house.papita.grants.reads(ana, "al-chat").items
    assert read.run_id == "run 1"


def test_several_loans_are_each_decided_and_recorded_by_itself(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    for actor in (ana, ben):
        house.key(actor)
    tokens = {"ana": house.project_token(ana), "ben": house.project_token(ben)}
    house.papita.grants.revoke(ben, "al-chat")
    api = house.api()

    def wanted(name: str, **changes: str) -> dict[str, str]:
        return {
            "token": tokens[name],
            "username": name,
            "credentialType": "openai",
            "requestId": "req-1",
            **changes,
        }

    answer = api.post(
        "/api/loans",
        json={
            "loans": [
                wanted("ana", runId="run 1"),
                wanted("ben"),
                wanted("ana", username="ben"),
                wanted("ana", token="papita_lease_none"),
                wanted("ana", runId="rün"),
                wanted("ana", runId="run 2", baseUrl="https://elsewhere.example/v1"),
                wanted("ana", runId="run 3"),
            ]
        },
        auth=CLIENT,
    )
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()["loans"]
    assert [one["status"] for one in found] == [200, 403, 404, 401, 422, 404, 200]
    codes = [one["problem"]["code"] for one in found if "problem" in one]
    assert codes == [
        "consent-required",
        "credential-not-found",
        "unauthenticated",
        "invalid-input",
        "credential-not-found",
    ]
    alone = api.get(
        "/api/credentials",
        params={"username": "ana", "credentialType": "openai", "projectId": "al-chat"},
        headers={"Authorization": f"Bearer {tokens['ana']}"},
    ).json()
    assert found[0]["loan"] == found[6]["loan"] == alone
    reads = house.papita.grants.reads(ana, "al-chat").items
    assert [read.run_id for read in reads if read.run_id] == ["run 3", "run 2", "run 1"]


def test_several_loans_are_for_the_project_that_asks(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    wanted = {"token": house.project_token(ana), "username": "ana", "credentialType": "openai"}
    api = house.api()
    for auth in (None, ("al-chat", "wrong"), ("another", CLIENT_SECRET)):
        answer = api.post("/api/loans", json={"loans": [wanted]}, auth=auth)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid-client")
    assert not house.papita.grants.reads(ana, "al-chat").items


def test_a_request_for_several_loans_has_a_size_and_a_form(house: House):
    api = house.api()
    one = {"token": CANARY, "username": "ana", "credentialType": "openai"}

    def status(body: object) -> int:
        answer = api.post("/api/loans", json=body, auth=CLIENT)
        assert CANARY not in answer.text
        return int(answer.status_code)

    assert status({"loans": [one] * 64}) == 200
    for bad in (
        {},
        {"loans": []},
        {"loans": [one] * 65},
        {"loans": [{**one, "projectId": "al-chat"}]},
        {"loans": [{**one, "username": ""}]},
        {"loans": [{**one, "token": CANARY * 20}]},
        {"loans": [{**one, "runId": "x" * 65}]},
    ):
        assert status(bad) == 422


def test_which_key_a_project_would_get_is_told_with_the_reason(house: House):
    ana = house.sign_in("ana")
    api = house.api()
    token = {"Authorization": f"Bearer {house.access_token('ana')}"}
    path = "/api/projects/al-chat/credential"
    none = api.get(path, headers=token).json()
    assert (none["credential"], none["reason"]) == (None, None)
    assert none["code"] == "credential-not-found"
    info = house.key(ana, label="Mine", project_id="al-chat")
    assert api.get(path, headers=token).json() == {
        "projectId": "al-chat",
        "credential": {
            "id": info.id,
            "label": "Mine",
            "credentialType": "openai",
            "sharedBy": None,
        },
        "reason": "project",
        "code": None,
        "sentence": "AL-Chat uses “Mine”: your own credential for this project goes first.",
    }
    assert api.get("/api/projects/nothing/credential", headers=token).status_code == 404
