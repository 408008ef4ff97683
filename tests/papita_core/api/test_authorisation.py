"""Each route against each kind of caller, read from the application: a new route needs a row."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount
from starlette.testclient import TestClient

from papita_core.actors import Actor
from papita_core.api.app import create_api
from tests.papita_core.house import CLIENT_SECRET, KEY, House

# nobody and whoever was thrown out; a guest; the owner; another member; the owner's access token
# with one scope each; a project token; a user token
CALLERS = (
    *("nobody", "disabled session", "disabled token", "guest", "owner", "other"),
    *("read", "write", "launch", "project token", "user token"),
)
OUT = (401, 401, 401)
ROWS: dict[str, tuple[int, ...]] = {
    "GET /openapi.json": (200,) * 11,
    "GET /docs": (200,) * 11,
    "GET /docs/start.js": (200,) * 11,
    "GET /.well-known/jwks.json": (200,) * 11,
    "GET /audit": (*OUT, 403, 403, 403, 403, 403, 403, 401, 401),
    "GET /audit/export": (*OUT, 403, 403, 403, 403, 403, 403, 401, 401),
    "GET /credentials": (*OUT, 403, 200, 200, 200, 403, 403, 422, 401),
    "GET /credentials?": (*OUT, 401, 401, 401, 401, 401, 401, 200, 401),
    "POST /credentials": (*OUT, 403, 201, 201, 403, 201, 403, 401, 401),
    "GET /credentials/{credential_id}": (*OUT, 403, 200, 404, 200, 403, 403, 401, 401),
    "PUT /credentials/{credential_id}": (*OUT, 403, 200, 404, 403, 200, 403, 401, 401),
    "DELETE /credentials/{credential_id}": (*OUT, 403, 204, 404, 403, 204, 403, 401, 401),
    "POST /credentials/{credential_id}/test": (*OUT, 403, 200, 404, 403, 200, 403, 401, 401),
    "POST /credentials/{credential_id}/disable": (*OUT, 403, 200, 404, 403, 200, 403, 401, 401),
    "POST /credentials/{credential_id}/enable": (*OUT, 403, 200, 404, 403, 200, 403, 401, 401),
    "GET /credentials/{credential_id}/shares": (*OUT, 403, 403, 403, 403, 403, 403, 401, 401),
    "PUT /credentials/{credential_id}/shares": (*OUT, 403, 403, 403, 403, 403, 403, 401, 401),
    "GET /credential-types": (*OUT, 200, 200, 200, 200, 200, 200, 401, 401),
    "POST /projects/{project_id}/launch": (*OUT, 200, 200, 200, 403, 403, 200, 401, 401),
    "GET /projects/{project_id}/credential": (*OUT, 200, 200, 200, 200, 403, 200, 401, 401),
    "POST /token": (401,) * 11,
    "POST /leases/check": (401,) * 11,
    "GET /erasures": (401,) * 11,
    "DELETE /erasures/{user_id}": (401,) * 11,
    "POST /loans": (401,) * 11,
    "GET /usage": (*OUT, 403, 200, 200, 200, 403, 403, 401, 401),
    "POST /usage": (401,) * 11,
}
QUERY = {"username": "owner", "credentialType": "openai", "projectId": "al-chat"}
NEW = {"credentialType": "openai", "credentials": {"api_key": KEY}}
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token": "x",
    "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "scope": "credential:use",
    "credential_type": "openai",
}


class Town:
    """Everybody who may call, and an owner whose credential they call for."""

    def __init__(self, house: House, origin: str) -> None:
        self.house, self.origin = house, origin
        self.owner = house.sign_in("owner")
        for name, role in (("other", "member"), ("guest", "guest"), ("gone", "member")):
            house.user(name, role)
        gone = house.cookie("gone"), house.access_token("gone")
        house.papita.users.set_disabled(Actor.operator(), "gone", True)
        user_token = house.papita.projects.user_token(self.owner, "al-chat").token
        self.headers: dict[str, dict[str, str]] = {
            "nobody": {},
            "disabled session": gone[0],
            "disabled token": bearer(gone[1]),
            "guest": house.cookie("guest"),
            "owner": house.cookie("owner"),
            "other": bearer(house.access_token("other")),
            "read": bearer(house.access_token("owner", "credentials:read")),
            "write": bearer(house.access_token("owner", "credentials:write")),
            "launch": bearer(house.access_token("owner", "projects:launch")),
            "project token": bearer(house.project_token(self.owner)),
            "user token": bearer(user_token),
        }

    def call(self, api: TestClient, row: str, caller: str) -> int:
        method, path = row.removesuffix("?").split(" ")
        credential = self.house.key(self.owner, base_url=f"{self.origin}/v1")
        path = path.replace("{credential_id}", credential.id).replace("{project_id}", "al-chat")
        answer = api.request(
            method,
            f"/api{path}",
            params=QUERY if row.endswith("?") else None,
            json=self.body(row),
            data=EXCHANGE if row == "POST /token" else None,
            headers={
                "If-Match": credential.etag,
                "Sec-Fetch-Site": "same-origin",
                **self.headers[caller],
            },
        )
        if row != "GET /credentials?" or answer.status_code != 200:
            assert KEY not in answer.text
        return answer.status_code

    def body(self, row: str) -> dict[str, object] | None:
        return {
            "POST /credentials": NEW,
            "PUT /credentials/{credential_id}": {"baseUrl": f"{self.origin}/v1"},
            "PUT /credentials/{credential_id}/shares": {"usernames": ["other"]},
        }.get(row)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def town(house: House) -> Iterator[Town]:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{nobody_listens.getsockname()[1]}"
        house.environment["PAPITA_PROVIDER_ALLOWLIST"] = origin
        yield Town(house, origin)


def routes(house: House) -> set[str]:
    found = set()
    for context in iter_route_contexts(create_api(house.papita, runner=house.runner).routes):
        if isinstance(context.original_route, Mount):
            continue  # the files of the documentation
        methods = set(context.methods or ()) - {"HEAD"}
        assert methods, context
        found |= {f"{method} {context.path}" for method in methods}
    return found


def test_every_route_has_a_row(house: House):
    assert routes(house) == {row for row in ROWS if not row.endswith("?")}
    assert {len(statuses) for statuses in ROWS.values()} == {len(CALLERS)}


@pytest.mark.parametrize("row", ROWS)
def test_each_caller_gets_what_is_its_own(town: Town, row: str):
    api = town.house.api()
    got = {caller: town.call(api, row, caller) for caller in CALLERS}
    assert got == dict(zip(CALLERS, ROWS[row], strict=True))


def test_the_client_alone_exchanges(town: Town):
    form = {**EXCHANGE, "subject_token": town.headers["user token"]["Authorization"][7:]}
    answer = town.house.api().post("/api/token", data=form, auth=("al-chat", CLIENT_SECRET))
    assert answer.status_code == 200


BAD_CREDENTIALS: list[dict[str, str]] = [
    bearer(""),
    bearer("x"),
    bearer("papita_pat_" + "x" * 43),
    bearer("papita_lease_" + "x" * 43),
    bearer("null"),
    {"Authorization": "Basic YWxpY2U6cGFzc3dvcmQ="},
    {"Authorization": "Bearer"},
    {"Cookie": "papita_session="},
    {"Cookie": "papita_session=x"},
    {"Cookie": "papita_session=%00"},
    {"Cookie": "__Host-papita_session=x"},
]


@pytest.mark.parametrize("headers", BAD_CREDENTIALS)
def test_made_up_callers_are_nobody(house: House, headers: dict[str, str]):
    house.key(house.sign_in("ana"))
    api = house.api()
    calls: list[Callable[[], int]] = [
        lambda: api.get("/api/credentials", headers=headers).status_code,
        lambda: api.get("/api/credentials", params=QUERY, headers=headers).status_code,
        lambda: api.post("/api/credentials", json=NEW, headers=headers).status_code,
        lambda: api.post("/api/projects/al-chat/launch", headers=headers).status_code,
    ]
    allowed = {401} if "lease" not in str(headers) else {401, 422}
    assert {call() for call in calls} <= allowed


def test_a_bad_token_is_not_helped_by_a_good_cookie(house: House):
    house.sign_in("ana")
    headers = {**house.cookie("ana"), **bearer("papita_pat_x"), "Sec-Fetch-Site": "same-origin"}
    assert house.api().get("/api/credentials", headers=headers).status_code == 401
