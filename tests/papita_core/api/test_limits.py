"""What is too large, too often, or better not kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.papita_core.house import KEY, House

QUERY = {"username": "ana", "credentialType": "openai", "projectId": "al-chat"}


def headers(house: House) -> dict[str, str]:
    house.sign_in("ana")
    return {
        "Authorization": f"Bearer {house.access_token('ana')}",
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_has_an_end(house: House, announced: bool):
    def pieces() -> Iterator[bytes]:
        for _ in range(70):
            yield b" " * 1024

    body = b" " * (64 * 1024 + 1) if announced else pieces()
    answer = house.api().post("/api/credentials", content=body, headers=headers(house))
    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_largest_body_is_still_read(house: House):
    body = b'{"credentialType": "openai", "credentials": {"api_key": "%s"}}' % KEY.encode()
    body += b" " * (64 * 1024 - len(body))
    answer = house.api().post("/api/credentials", content=body, headers=headers(house))
    assert answer.status_code == 201


@pytest.mark.parametrize("length", ["x", "-1", "²", "9" * 5000, "1e3", "٣"])
def test_a_length_that_is_none_is_refused(house: House, length: str):
    sent = [
        *((name.lower().encode(), value.encode()) for name, value in headers(house).items()),
        (b"content-length", length.encode("utf-8")),
    ]
    answer = house.api().post("/api/credentials", content=iter([b"{}"]), headers=sent)
    assert answer.status_code == 413


def test_loans_over_the_limit_are_told_when_to_come_again(house: House):
    house.environment["PAPITA_RESOLVE_LIMIT"] = "2/minute"
    ana = house.sign_in("ana")
    house.key(ana)
    sent = {"Authorization": f"Bearer {house.project_token(ana)}"}
    api = house.api()
    stranger = {"Authorization": "Bearer papita_lease_made_up"}
    for _ in range(3):
        answer = api.get("/api/credentials", params=QUERY, headers=stranger)
        assert answer.status_code == 401
    answers = [api.get("/api/credentials", params=QUERY, headers=sent) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 61
    assert answers[2].json()["code"] == "rate-limited"
    assert KEY not in answers[2].text


def test_nothing_but_the_public_keys_is_kept_by_a_cache(house: House):
    sent = headers(house)
    api = house.api()
    body = b'{"credentialType": "openai", "credentials": {"api_key": "%s"}}' % KEY.encode()
    made = api.post("/api/credentials", content=body, headers=sent)
    place = made.headers["location"]
    answers = [
        made,
        api.get(place, headers=sent),
        api.get("/api/credentials", headers=sent),
        api.post("/api/projects/al-chat/launch", headers=sent),
        api.get("/api/nothing"),
        api.get("/api/credentials"),
        api.patch("/api/credentials"),
        api.post("/api/token"),
        api.delete(place, headers={**sent, "If-Match": "*"}),
    ]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
