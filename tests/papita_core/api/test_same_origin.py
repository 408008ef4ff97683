"""A session cookie counts only on requests that come from the portal's own pages."""

from __future__ import annotations

import pytest

from tests.papita_core.house import KEY, House

NEW = {"credentialType": "openai", "credentials": {"api_key": KEY}}


@pytest.fixture(scope="module")
def ana(shared_house: House) -> House:
    shared_house.sign_in("ana")
    return shared_house


@pytest.mark.parametrize(
    ("headers", "reading", "writing"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200, 201),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:3000"}, 200, 201),
        ({"Origin": "http://localhost:3000"}, 200, 201),
        ({}, 200, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403, 403),
        ({"Sec-Fetch-Site": "none"}, 403, 403),
        ({"Origin": "null"}, 403, 403),
        ({"Origin": ""}, 403, 403),
        ({"Origin": "https://localhost:3000"}, 403, 403),
        ({"Origin": "http://localhost:3001"}, 403, 403),
        ({"Origin": "http://localhost:3000.evil.example"}, 403, 403),
        ({"Origin": "http://evil.example"}, 403, 403),
        ({"Origin": "http://[bad"}, 403, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, 403, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:3000"}, 403, 403),
    ],
)
def test_a_cookie_counts_from_the_same_origin_alone(
    ana: House, headers: dict[str, str], reading: int, writing: int
):
    api, sent = ana.api(), {**ana.cookie("ana"), **headers}
    read = api.get("/api/credentials", headers=sent)
    assert read.status_code == reading
    assert api.post("/api/credentials", json=NEW, headers=sent).status_code == writing
    if reading == 403:
        assert read.json()["code"] == "cross-site"


def test_with_a_public_address_no_other_host_is_ones_own(house: House):
    house.environment["PAPITA_PUBLIC_URL"] = "https://papita.example"
    house.sign_in("ana")
    api = house.api()
    cookie = house.cookie("ana")["Cookie"].replace("papita_", "__Host-papita_")
    for origin, status in (
        ("https://papita.example", 201),
        ("http://papita.example", 403),
        ("http://localhost:3000", 403),
    ):
        sent = {"Cookie": cookie, "Origin": origin}
        assert api.post("/api/credentials", json=NEW, headers=sent).status_code == status
    plain = house.cookie("ana")
    assert api.get("/api/credentials", headers=plain).status_code == 401


def test_a_token_needs_no_origin_as_no_browser_sends_it_by_itself(house: House):
    house.sign_in("ana")
    sent = {
        "Authorization": f"Bearer {house.access_token('ana')}",
        "Origin": "http://elsewhere.example",
    }
    assert house.api().post("/api/credentials", json=NEW, headers=sent).status_code == 201


def test_no_other_site_is_allowed_to_read_answers(house: House):
    house.sign_in("ana")
    sent = {
        **house.cookie("ana"),
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "GET",
    }
    api = house.api()
    for answer in (
        api.get("/api/credentials", headers=sent),
        api.options("/api/credentials", headers=sent),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]
