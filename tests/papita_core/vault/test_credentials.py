"""Credentials: seen by their owner alone, changed under an ETag, and gone when they are deleted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from papita_core.actors import Actor
from papita_core.errors import (
    CredentialDisabled,
    CredentialNotFound,
    Forbidden,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidInput,
    PreconditionFailed,
    SecretRequired,
)
from papita_core.vault.service import (
    CredentialInfo,
    NewCredential,
    ReplaceCredential,
    TestResult,
    Usage,
)
from tests.papita_core.house import KEY, House, MovableClock, at_once, both_engines

LATER = datetime(2090, 1, 1, tzinfo=UTC)


@both_engines
def test_what_is_stored_is_listed_without_the_key(house: House):
    ana = house.sign_in("ana")
    info = house.key(
        ana,
        label=" mine ",
        project_id="al-chat",
        base_url="https://AI.example:443/v1/",
        expires_at=LATER,
    )
    assert (info.label, info.project_id, info.credential_type) == ("mine", "al-chat", "openai")
    assert (info.base_url, info.expires_at) == ("https://ai.example/v1", LATER)
    assert (info.hint, info.status, info.last_used_at) == ("••••cdef", "untested", None)
    assert house.papita.credentials.get(ana, info.id) == info
    assert house.papita.credentials.list(ana).items == [info]
    assert KEY not in repr(info)


def test_defaults_come_from_the_type(house: House):
    info = house.key(house.sign_in("ana"), label="  ", base_url="")
    assert (info.label, info.base_url) == ("OpenAI", "https://api.openai.com/v1")


@pytest.mark.parametrize(("key", "hint"), [("x" * 15, "••••"), ("y" * 12 + "wxyz", "••••wxyz")])
def test_a_hint_shows_nothing_of_a_short_key(house: House, key: str, hint: str):
    assert house.key(house.sign_in("ana"), key).hint == hint


@both_engines
def test_pages_hold_every_credential_once(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    house.key(ben)
    made = [house.key(ana, label=str(number)) for number in range(7)]
    found: list[CredentialInfo] = []
    cursor = None
    while True:
        page = house.papita.credentials.list(ana, cursor=cursor, limit=3)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == made
    foreign = house.papita.credentials.list(ben).items[0].id
    said = set()
    for wrong in (foreign, "nothing", "\0", "x" * 500):
        with pytest.raises(InvalidInput) as caught:
            house.papita.credentials.list(ana, cursor=wrong)
        said.add(str(caught.value))
    assert len(said) == 1


def uses(house: House, credential_id: str, etag: str) -> list[Callable[[Any], object]]:
    credentials = house.papita.credentials
    return [
        lambda actor: credentials.get(actor, credential_id),
        lambda actor: credentials.replace(actor, credential_id, ReplaceCredential(), etag=etag),
        lambda actor: credentials.delete(actor, credential_id, etag=etag),
        lambda actor: credentials.test(actor, credential_id),
        lambda actor: credentials.set_disabled(actor, credential_id, True, etag=etag),
        lambda actor: credentials.uses(actor, credential_id),
    ]


@both_engines
def test_what_is_anothers_and_what_is_not_there_are_the_same(house: House):
    ana, eve = house.sign_in("ana"), house.sign_in("eve", "administrator")
    info = house.key(ana)
    for etag in (info.etag, "*", "x"):
        said = set()
        for credential_id in (info.id, "nothing", "\0", info.id.upper(), info.id + " "):
            for use in uses(house, credential_id, etag):
                with pytest.raises(CredentialNotFound) as caught:
                    use(eve)
                said.add((type(caught.value), str(caught.value)))
        assert len(said) == 1
    assert house.papita.credentials.list(eve).items == []
    assert house.papita.credentials.get(ana, info.id) == info


def test_a_guest_may_nothing(house: House):
    gus = house.sign_in("gus", "guest")
    for use in [*uses(house, "x", "x"), house.papita.credentials.list, house.key]:
        with pytest.raises(Forbidden):
            use(gus)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"credential_type": "nothing"}, "credentialType", "no such type"),
    ({"secret": {}}, "api_key", "Enter the API key"),
    ({"secret": {"api_key": "   "}}, "api_key", "Enter the API key"),
    ({"secret": {"api_key": "x" * 4097}}, "api_key", "at most 4096"),
    ({"secret": {"api_key": "two words"}}, "api_key", "Copy it once more"),
    ({"secret": {"api_key": "schlüssel"}}, "api_key", "Copy it once more"),
    ({"secret": {"api_key": "line\nbreak"}}, "api_key", "Copy it once more"),
    ({"secret": {"api_key": "\ud800"}}, "api_key", "Copy it once more"),
    ({"secret": {"api_key": KEY, "sk-canary": "x"}}, "credentials", "api_key"),
    ({"label": "x" * 201}, "label", "200"),
    ({"label": "two\nlines"}, "label", "one line"),
    ({"label": "\ud800"}, "label", "one line"),
    ({"project_id": "nothing"}, "projectId", "no such project"),
    ({"project_id": "\0"}, "projectId", "no such project"),
    ({"base_url": "ftp://ai.example"}, "baseUrl", "https://"),
    ({"base_url": "http://ai.example/v1"}, "baseUrl", "PAPITA_PROVIDER_ALLOWLIST"),
    ({"base_url": "https://me:sk-canary@ai.example"}, "baseUrl", "user name"),
    ({"base_url": "https://"}, "baseUrl", "host"),
    ({"base_url": "ai.example"}, "baseUrl", "https://"),
    ({"base_url": "https://ai.example:99999"}, "baseUrl", "65535"),
    ({"base_url": "https://ai.example:sk-canary"}, "baseUrl", "port"),
    ({"base_url": "https://[sk-canary]/"}, "baseUrl", "host"),
    ({"base_url": "https://[::1"}, "baseUrl", "host"),
    ({"base_url": "https://sk-canary\u2100.example"}, "baseUrl", "host"),
    ({"base_url": "https://\ud800.example"}, "baseUrl", "signs"),
    ({"base_url": "https://" + "ü" * 64 + ".example"}, "baseUrl", "host"),
    ({"base_url": "https://" + "a." * 150 + "example"}, "baseUrl", "host"),
    ({"base_url": "https://ai.example/a b"}, "baseUrl", "spaces"),
    ({"base_url": "https://ai.example/\0"}, "baseUrl", "spaces"),
    ({"base_url": "https://ai.example\\@evil.example"}, "baseUrl", "spaces"),
    ({"base_url": "https://ai.example/v1?key=sk-canary"}, "baseUrl", "question mark"),
    ({"base_url": "https://ai.example/#sk-canary"}, "baseUrl", "#"),
    ({"base_url": "https://ai.example/" + "x" * 2048}, "baseUrl", "2048"),
    ({"expires_at": datetime(2001, 1, 1, tzinfo=UTC)}, "expiresAt", "passed"),
    ({"expires_at": datetime(2090, 1, 1)}, "expiresAt", "zone"),  # noqa: DTZ001
    (
        {"expires_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))},
        "expiresAt",
        "year",
    ),
    (
        {"expires_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=12)))},
        "expiresAt",
        "passed",
    ),
]


@pytest.fixture(scope="module")
def ana(shared_house: House) -> Actor:
    return shared_house.sign_in("ana")


@pytest.mark.parametrize(("wrong", "field", "words"), WRONG)
def test_what_cannot_be_stored_is_refused_by_field_in_a_sentence(
    ana: Actor, shared_house: House, wrong: dict[str, Any], field: str, words: str
):
    house = shared_house
    good = {"credential_type": "openai", "secret": {"api_key": KEY}}
    with pytest.raises(InvalidInput) as caught:
        house.papita.credentials.create(ana, NewCredential(**{**good, **wrong}))
    assert list(caught.value.errors) == [field]
    sentence = caught.value.errors[field]
    assert words in sentence
    assert sentence.endswith(".")
    for sent in ("sk-canary", KEY, "evil"):
        assert sent not in sentence
    if "credential_type" in wrong:
        return
    info = house.key(ana)
    changed: dict[str, Any] = {"secret": {"api_key": KEY}, **wrong}
    with pytest.raises(InvalidInput) as again:
        house.papita.credentials.replace(ana, info.id, ReplaceCredential(**changed), etag=info.etag)
    assert again.value.errors == caught.value.errors
    assert house.papita.credentials.get(ana, info.id) == info


def test_all_errors_are_told_at_once(house: House):
    new = NewCredential("openai", {}, label="x" * 300, project_id="x", base_url="x")
    with pytest.raises(InvalidInput) as caught:
        house.papita.credentials.create(house.sign_in("ana"), new)
    assert set(caught.value.errors) == {"api_key", "label", "projectId", "baseUrl"}


@both_engines
def test_replacing_keeps_the_key_or_takes_a_new_one(house: House):
    ana = house.sign_in("ana")
    token = house.project_token(ana)
    info = house.key(ana)
    renamed = house.papita.credentials.replace(
        ana, info.id, ReplaceCredential(label="other", expires_at=LATER), etag=info.etag
    )
    assert (renamed.label, renamed.expires_at, renamed.hint) == ("other", LATER, info.hint)
    assert renamed.etag != info.etag
    assert house.lend(token, "ana").secret == {"api_key": KEY}
    new = ReplaceCredential(secret={"api_key": "sk-demo-another-wxyz"})
    replaced = house.papita.credentials.replace(ana, info.id, new, etag=renamed.etag)
    assert (replaced.hint, replaced.label, replaced.expires_at) == ("••••wxyz", "OpenAI", None)
    assert house.lend(token, "ana").secret == {"api_key": "sk-demo-another-wxyz"}
    assert house.sql("SELECT version FROM credential_secrets") == [(2,)]


@pytest.mark.parametrize("url", ["https://evil.example/v1", "https://api.openai.com:8443/v1"])
def test_a_new_origin_needs_the_key_again(house: House, url: str):
    ana = house.sign_in("ana")
    info = house.key(ana)
    moved = ReplaceCredential(base_url=url)
    with pytest.raises(SecretRequired):
        house.papita.credentials.replace(ana, info.id, moved, etag=info.etag)
    with_key = ReplaceCredential(base_url=url, secret={"api_key": "sk-demo-for-there-1"})
    info = house.papita.credentials.replace(ana, info.id, with_key, etag=info.etag)
    back = ReplaceCredential()  # the default address is another origin again
    with pytest.raises(SecretRequired):
        house.papita.credentials.replace(ana, info.id, back, etag=info.etag)


@both_engines
def test_a_stale_etag_changes_nothing(house: House):
    ana = house.sign_in("ana")
    info = house.key(ana)
    credentials = house.papita.credentials
    fresh = credentials.replace(ana, info.id, ReplaceCredential(label="1"), etag=info.etag)
    for etag in (info.etag, "", f"W/{fresh.etag}", fresh.etag.strip('"'), "ü", '"x"'):
        with pytest.raises(PreconditionFailed):
            credentials.replace(ana, info.id, ReplaceCredential(label="2"), etag=etag)
        with pytest.raises(PreconditionFailed):
            credentials.delete(ana, info.id, etag=etag)
    assert credentials.get(ana, info.id) == fresh
    house.lend(house.project_token(ana), "ana")
    assert credentials.get(ana, info.id).etag == fresh.etag  # use is no change
    assert credentials.replace(ana, info.id, ReplaceCredential(label="3"), etag="*").label == "3"


@both_engines
@pytest.mark.parametrize("with_key", [False, True])
def test_of_eight_writers_on_one_etag_one_wins_each_round(house: House, with_key: bool):
    ana = house.sign_in("ana")
    info = house.key(ana)
    info_id = info.id

    def change(number: int, etag: str) -> CredentialInfo:
        key = {"api_key": f"sk-demo-of-writer-{number}"} if with_key else None
        new = ReplaceCredential(label=f"writer {number}", secret=key)
        return house.papita.credentials.replace(ana, info_id, new, etag=etag)

    for _ in range(4):
        outcomes = at_once([partial(change, number, info.etag) for number in range(8)])
        won = [outcome for outcome in outcomes if isinstance(outcome, CredentialInfo)]
        assert len(won) == 1, outcomes
        assert sum(isinstance(outcome, PreconditionFailed) for outcome in outcomes) == 7, outcomes
        info = house.papita.credentials.get(ana, info.id)
        assert info == won[0]
    assert len(house.sql("SELECT * FROM credential_secrets")) == 1
    assert house.lend(house.project_token(ana), "ana").secret == {
        "api_key": f"sk-demo-of-{info.label.replace(' ', '-')}" if with_key else KEY
    }


@both_engines
def test_deleting_races_with_replacing_and_one_of_them_wins(house: House):
    ana = house.sign_in("ana")
    credentials = house.papita.credentials
    for _ in range(3):
        info = house.key(ana)
        calls: list[Callable[[], object]] = [
            lambda i=info: credentials.delete(ana, i.id, etag=i.etag),
            lambda i=info: credentials.replace(ana, i.id, ReplaceCredential(), etag=i.etag),
        ]
        outcomes = at_once(calls * 2)
        lost = [o for o in outcomes if isinstance(o, CredentialNotFound | PreconditionFailed)]
        assert len(lost) == 3, outcomes
    assert house.papita.audit.verify() == []


@both_engines
def test_a_repeated_request_gets_the_first_answer(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    credentials = house.papita.credentials
    new = NewCredential("openai", {"api_key": KEY}, label="a", expires_at=LATER)
    first = credentials.create(ana, new, idempotency_key="once")
    assert credentials.create(ana, new, idempotency_key="once") == first
    other = NewCredential("openai", {"api_key": KEY + "0"}, label="a", expires_at=LATER)
    with pytest.raises(IdempotencyMismatch):
        credentials.create(ana, other, idempotency_key="once")
    assert credentials.create(ana, new, idempotency_key="twice").id != first.id
    assert credentials.create(ben, new, idempotency_key="once").id != first.id
    assert len(credentials.list(ana).items) == 2
    for wrong in ("", "x" * 256):
        with pytest.raises(InvalidInput):
            credentials.create(ana, new, idempotency_key=wrong)
    stored = repr(house.sql("SELECT * FROM idempotent_requests"))
    assert "once" not in stored
    assert KEY not in stored


@both_engines
def test_of_eight_that_send_one_request_at_once_none_stores_it_twice(house: House):
    ana = house.sign_in("ana")
    new = NewCredential("openai", {"api_key": KEY})
    outcomes = at_once(
        [lambda: house.papita.credentials.create(ana, new, idempotency_key="once")] * 8
    )
    stored = house.papita.credentials.list(ana).items
    assert len(stored) == 1
    told = [outcome for outcome in outcomes if not isinstance(outcome, IdempotencyInFlight)]
    assert told == stored * len(told)
    assert told != []


class GatedClock(MovableClock):
    """Stops the first request in the middle of its transaction, until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.gate = threading.Event(), threading.Event()
        self.asked = 0

    def __call__(self) -> datetime:
        if threading.current_thread().name == "first":
            self.asked += 1
            if self.asked == 2:  # the first time is before the transaction
                self.inside.set()
                self.gate.wait(30)
        return super().__call__()


@both_engines
def test_while_the_first_request_is_served_a_repetition_is_told_to_come_back(house: House):
    house.clock = clock = GatedClock()
    ana = house.sign_in("ana")
    credentials = house.papita.credentials
    new = NewCredential("openai", {"api_key": KEY})
    results: list[CredentialInfo] = []
    first = threading.Thread(
        target=lambda: results.append(credentials.create(ana, new, idempotency_key="once")),
        name="first",
    )
    first.start()
    try:
        assert clock.inside.wait(30)
        with pytest.raises(IdempotencyInFlight):
            credentials.create(ana, new, idempotency_key="once")
    finally:
        clock.gate.set()
        first.join()
    assert credentials.create(ana, new, idempotency_key="once") == results[0]
    assert credentials.create(ana, new, idempotency_key="twice").id != results[0].id
    assert len(credentials.list(ana).items) == 2


def test_a_refused_request_does_not_use_up_its_key(house: House):
    ana = house.sign_in("ana")
    with pytest.raises(InvalidInput):
        house.papita.credentials.create(ana, NewCredential("openai", {}), idempotency_key="k")
    house.papita.credentials.create(
        ana, NewCredential("openai", {"api_key": KEY}), idempotency_key="k"
    )


@both_engines
def test_deleting_shreds(house: House):
    ana = house.sign_in("ana")
    info = house.key(ana)
    kept = house.key(ana)
    (row,) = house.sql(
        "SELECT blob, dek_wrapped FROM credential_secrets WHERE credential_id = :id", id=info.id
    )
    house.papita.credentials.delete(ana, info.id, etag=info.etag)
    assert house.sql("SELECT id FROM credentials") == [(kept.id,)]
    assert house.sql("SELECT credential_id FROM credential_secrets") == [(kept.id,)]
    with pytest.raises(CredentialNotFound):
        house.papita.credentials.get(ana, info.id)
    if house.papita.database.is_sqlite:
        house.papita.close()  # the last connection folds the write-ahead log into the file
        stored = b"".join(path.read_bytes() for path in (house.folder / "data").iterdir())
        for shredded in row:
            assert bytes(shredded)[30:] not in stored


@both_engines
def test_every_change_is_on_the_record_of_the_owner(house: House):
    ana = house.sign_in("ana")
    info = house.key(ana)
    info = house.papita.credentials.replace(ana, info.id, ReplaceCredential(), etag=info.etag)
    house.papita.credentials.delete(ana, info.id, etag=info.etag)
    entries = house.papita.audit.entries(ana).items[:3]
    assert [entry.event.action for entry in entries] == [
        *("credential.deleted", "credential.replaced", "credential.created")
    ]
    assert {(e.event.actor_id, e.event.owner_id, e.event.subject_id) for e in entries} == {
        (ana.user_id, ana.user_id, info.id)
    }
    assert house.papita.audit.verify() == []


def test_an_expired_credential_says_so(house: House):
    ana = house.sign_in("ana")
    info = house.key(ana, expires_at=house.clock() + timedelta(hours=1))
    assert info.status == "untested"
    house.clock.forward(hours=1)
    assert house.papita.credentials.get(ana, info.id).status == "expired"
    renamed = house.papita.credentials.replace(
        ana, info.id, ReplaceCredential(label="x", expires_at=info.expires_at), etag=info.etag
    )
    assert (renamed.label, renamed.status) == ("x", "expired")


@both_engines
def test_a_disabled_credential_is_lent_to_nobody_until_it_is_enabled(house: House):
    ana = house.sign_in("ana")
    token = house.project_token(ana)
    info = house.key(ana)
    credentials = house.papita.credentials
    off = credentials.set_disabled(ana, info.id, True, etag=info.etag)
    assert (off.disabled, off.status) == (True, "disabled")
    assert off.etag != info.etag
    with pytest.raises(PreconditionFailed):
        credentials.set_disabled(ana, info.id, False, etag=info.etag)
    with pytest.raises(CredentialDisabled):
        house.lend(token, "ana")
    assert credentials.set_disabled(ana, info.id, True, etag=off.etag) == off  # no change
    on = credentials.set_disabled(ana, info.id, False, etag=off.etag)
    assert (on.disabled, on.status) == (False, "untested")
    assert house.lend(token, "ana").secret == {"api_key": KEY}
    actions = [entry.event.action for entry in house.papita.audit.entries(ana).items]
    assert actions.count("credential.disabled") == 1
    assert actions.count("credential.enabled") == 1


def test_what_is_shown_goes_by_what_weighs_most(house: House):
    ana, ada = house.sign_in("ana"), house.sign_in("ada", "administrator")
    credentials = house.papita.credentials
    info = house.key(ana, expires_at=house.clock() + timedelta(hours=1))
    house.clock.forward(hours=2)
    assert credentials.get(ana, info.id).status == "expired"
    credentials.set_disabled(ana, info.id, True, etag=info.etag)
    assert credentials.get(ana, info.id).status == "disabled"
    credentials.set_blocked(ada, info.id, True)
    assert credentials.get(ana, info.id).status == "blocked"


def test_what_expires_soon_or_has_expired_is_told_in_order(house: House):
    ana = house.sign_in("ana")
    house.key(ana, label="never")
    for days in (40, 3, 1):
        house.key(ana, label=f"in {days}", expires_at=house.clock() + timedelta(days=days))
    house.key(house.sign_in("ben"), expires_at=house.clock() + timedelta(days=1))
    house.clock.forward(days=2)
    soon = house.papita.credentials.expiring(ana, timedelta(days=7))
    assert [(item.label, item.status) for item in soon] == [
        ("in 1", "expired"),
        ("in 3", "untested"),
    ]


@both_engines
def test_use_is_counted_by_day_and_told_newest_first(house: House):
    if house.clock().hour == 23:
        house.clock.forward(hours=1)  # so that the day does not end in the middle
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    token = house.project_token(ana)
    credentials = house.papita.credentials
    foreign = house.key(ben)
    used, other = house.key(ana, project_id="al-chat"), house.key(ana)
    for _ in range(3):
        house.lend(token, "ana")
    found = credentials.usage(ana, [used.id, other.id, foreign.id, "nothing"])
    assert set(found) == {used.id, other.id}
    assert (found[used.id].today, found[used.id].last_project) == (3, "al-chat")
    assert found[used.id].last_at is not None
    assert found[other.id] == Usage(0, None, None)
    page = credentials.uses(ana, used.id, limit=2)
    rest = credentials.uses(ana, used.id, cursor=page.next_cursor)
    uses = [*page.items, *rest.items]
    assert (len(page.items), len(rest.items), rest.next_cursor) == (2, 1, None)
    assert {(use.username, use.project_id, use.outcome) for use in uses} == {
        ("ana", "al-chat", "ok")
    }
    assert [use.at for use in uses] == sorted((use.at for use in uses), reverse=True)
    for cursor in ("", "x", "~~", "2030-01-01~main~1", "2030-01-01T00:00:00+00:00~\0~1"):
        with pytest.raises(InvalidInput):
            credentials.uses(ana, used.id, cursor=cursor)
    house.clock.forward(days=1)
    assert credentials.usage(ana, [used.id])[used.id].today == 0


@both_engines
def test_many_are_stored_together_or_not_at_all(house: House):
    ana = house.sign_in("ana")
    credentials = house.papita.credentials
    good = NewCredential("openai", {"api_key": KEY})
    wrong = NewCredential("openai", {"api_key": "two words"}, label="x" * 201)
    with pytest.raises(InvalidInput) as caught:
        credentials.create_many(ana, [good, wrong])
    assert set(caught.value.errors) == {"1.api_key", "1.label"}
    assert credentials.list(ana).items == []
    groq = NewCredential("groq", {"api_key": "gsk_0123456789abcdefghijklmn"})
    tested = TestResult("ok", house.clock(), "The provider accepts the key.")
    made = credentials.create_many(ana, [good, groq], tested=[None, tested])
    assert [(item.credential_type, item.status) for item in made] == [
        ("openai", "untested"),
        ("groq", "ok"),
    ]
    assert {item.id for item in credentials.list(ana).items} == {item.id for item in made}
    with pytest.raises(InvalidInput):
        credentials.create_many(ana, [good] * 201)
    with pytest.raises(Forbidden):
        credentials.create_many(ana, [good], username="ana")


@both_engines
def test_a_secret_that_is_there_already_is_known_to_its_owner_alone(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    credentials = house.papita.credentials
    info = house.key(ana, label="first")
    same = NewCredential("openai", {"api_key": KEY}, label="other", base_url="https://x.example")
    others = [
        NewCredential("openai", {"api_key": KEY + "0"}),
        NewCredential("openai-compatible", {"api_key": KEY}),
    ]
    assert credentials.known(ana, [*others, same]) == {2}
    assert credentials.known(ben, [*others, same]) == set()
    new = ReplaceCredential(secret={"api_key": KEY + "0"})
    credentials.replace(ana, info.id, new, etag=info.etag)
    assert credentials.known(ana, [*others, same]) == {0}
    (stored,) = house.sql("SELECT fingerprint FROM credentials")
    assert KEY not in stored[0]


def test_of_credentials_without_a_key_the_address_tells(house: House):
    ana = house.sign_in("ana")
    here, there = (
        NewCredential("vllm", {}, base_url=f"https://{name}.example/v1") for name in ("a", "b")
    )
    info = house.papita.credentials.create(ana, here)
    assert info.hint == "no key"
    assert house.papita.credentials.known(ana, [here, there]) == {0}
