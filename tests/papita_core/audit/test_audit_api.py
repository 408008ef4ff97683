"""`/api/audit`: pages and exports over HTTP, for auditors alone."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from papita_core.audit.service import Event
from tests.papita_core.house import House

BOTH = ("/api/audit", "/api/audit/export")


@pytest.fixture
def api(house: House) -> TestClient:
    """Called by an administrator; ana has a key, which AL-Chat has read once."""
    ana = house.sign_in("ana")
    house.key(ana)
    house.lend(house.project_token(ana), "ana")
    house.user("ada", "administrator")
    client = house.api()
    client.headers.update({"Sec-Fetch-Site": "same-origin", **house.cookie("ada")})
    return client


def entries(api: TestClient, **query: str) -> list[dict[str, Any]]:
    answer = api.get("/api/audit", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def test_a_page_is_newest_first_with_names(api: TestClient):
    (read,) = entries(api, action="credential.read")
    assert read["actorId"] == read["projectId"] == "al-chat"
    assert (read["actorName"], read["ownerName"], read["outcome"]) == (None, "ana", "ok")
    everything = entries(api)
    assert everything[0]["action"] == "session.started"
    seqs = [entry["seq"] for entry in everything]
    assert seqs == sorted(seqs, reverse=True)


def test_filters_are_those_of_the_log(api: TestClient, house: House):
    (read,) = entries(api, user="ana", project="al-chat", action="credential.read", outcome="ok")
    assert entries(api, subject=read["subjectId"], action="credential.read") == [read]
    assert entries(api, outcome="failed") == []
    assert entries(api, since="2030-01-01") == entries(api, until="2020-01-01") == []
    assert entries(api, action="", user="", since="") == entries(api)
    today = f"{house.clock():%Y-%m-%d}"
    assert entries(api, since=today, until=today) == entries(api)


def test_pages_go_on_with_the_cursor(api: TestClient):
    everything = entries(api)
    found: list[dict[str, Any]] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        answer = api.get("/api/audit", params=query).json()
        found += answer["entries"]
        if answer["nextCursor"] is None:
            break
        query["cursor"] = answer["nextCursor"]
    assert found == everything


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", "soon"),
        ("until", "2030-99-01"),
        ("user", "nobody-here"),
        ("user", "a\x00b"),
        ("cursor", "no-cursor"),
        ("limit", "0"),
        ("limit", "501"),
        ("action", "x" * 65),
    ],
)
def test_what_cannot_be_used_is_named_and_not_repeated(api: TestClient, name: str, value: str):
    answer = api.get("/api/audit", params={name: value})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [name]
    assert value not in answer.text or len(value) < 4


def test_odd_text_is_refused_too(api: TestClient):
    for path in BOTH:
        answer = api.get(path, params={"project": "a\x00b"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
    assert api.get("/api/audit/export", params={"format": "xlsx"}).status_code == 422


def test_an_export_is_a_file_that_nobody_keeps(api: TestClient):
    for file_type, media in (("csv", "text/csv"), ("jsonl", "application/x-ndjson")):
        answer = api.get("/api/audit/export", params={"format": file_type})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media)
        assert answer.headers["content-disposition"] == f'attachment; filename="audit.{file_type}"'
        assert answer.headers["cache-control"] == "no-store"
        if file_type == "jsonl":
            assert [json.loads(line) for line in answer.text.splitlines()] == entries(api)[::-1]
        else:
            rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
            assert [row["action"] for row in rows] == [e["action"] for e in entries(api)[::-1]]
    only = api.get("/api/audit/export", params={"action": "credential.read"}).text
    assert only.count("\n") == 1


def test_a_long_export_arrives_whole(api: TestClient, house: House):
    with house.papita.database.write() as session:
        events = [Event("test.done", subject_id=str(number)) for number in range(2600)]
        house.papita.audit.append(session, *events)
    text = api.get("/api/audit/export", params={"action": "test.done"}).text
    found = [json.loads(line)["subjectId"] for line in text.splitlines()]
    assert found == [str(number) for number in range(2600)]


@pytest.mark.parametrize("path", BOTH)
def test_nobody_else_reads_the_log(api: TestClient, house: House, path: str):
    fresh = house.api()
    same = {"Sec-Fetch-Site": "same-origin"}
    assert fresh.get(path).status_code == 401
    assert fresh.get(path, headers={**house.cookie("ana"), **same}).status_code == 403
    token = {"Authorization": f"Bearer {house.access_token('ada')}"}
    assert fresh.get(path, headers=token).status_code == 403  # no scope of a token is enough
    crossing = {**house.cookie("ada"), "Sec-Fetch-Site": "cross-site"}
    answer = fresh.get(path, headers=crossing)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")
    assert fresh.get(path, headers={**house.cookie("ada"), **same}).status_code == 200


def test_the_filter_of_a_stranger_is_not_looked_at(api: TestClient, house: House):
    """Who may not read the log does not learn which names there are."""
    headers = {**house.cookie("ana"), "Sec-Fetch-Site": "same-origin"}
    answers = [
        house.api().get("/api/audit", params={"user": name}, headers=headers).json()
        for name in ("ada", "nobody-here")
    ]
    assert answers[0] == answers[1]
    assert answers[0]["code"] == "forbidden"
