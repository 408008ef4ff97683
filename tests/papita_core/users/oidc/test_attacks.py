"""What hostile providers, hostile pages and strangers with somebody else's answer get: nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from papita_core.users.oidc.attempts import BrowserSecret
from papita_core.users.oidc.errors import LogoutTokenRefused, Refused
from papita_core.users.oidc.service import Answer
from tests.identity_providers import (
    CLIENT_SECRET,
    HostileProvider,
    query_of,
    signed_with_the_public_key,
    signed_with_the_secret,
    signing_key,
    table,
    unsigned,
)
from tests.papita_core.house import House, both_engines
from tests.papita_core.users.oidc.conftest import Door


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.reason


@pytest.fixture
def nobody_came(house_of_the_test: House) -> Iterator[None]:
    """Afterwards there are as many users as before."""
    before = house_of_the_test.papita.users.count()
    yield
    assert house_of_the_test.papita.users.count() == before


@pytest.fixture
def house_of_the_test(request: pytest.FixtureRequest) -> House:
    name = "lasting" if "lasting" in request.fixturenames else "door"
    door: Door = request.getfixturevalue(name)
    return door.house


# --- state: single use, short-lived, bound to the browser ---


@both_engines
def test_state_serves_once(door: Door):
    answer = door.provider.answer(door.begin())
    assert door.finish(**answer).user is not None
    assert refused(lambda: door.finish(**answer)) == "stale"


@pytest.mark.parametrize("state", ["", "x", "ü", "x" * 5000, "\0"])
def test_state_that_nobody_began(lasting: Door, state: str):
    answer = lasting.provider.answer(lasting.begin())
    assert refused(lambda: lasting.finish(**{**answer, "state": state})) == "stale"
    assert lasting.provider.token_requests == []


def test_state_in_a_foreign_browser_and_the_owner_goes_on(lasting: Door):
    """Login CSRF: a page that makes somebody's browser finish what a stranger began."""
    answer = lasting.provider.answer(lasting.begin())
    victim = Door(lasting.house, lasting.provider)
    assert refused(lambda: victim.finish(**answer)) == "stale"
    finish = lasting.house.papita.oidc.finish
    assert refused(lambda: finish(Answer(**answer), None, session=None)) == "stale"
    assert lasting.provider.token_requests == []
    assert lasting.finish(**answer).user is not None


def test_state_that_is_too_old(door: Door):
    answer = door.provider.answer(door.begin())
    door.house.clock.forward(minutes=11)
    assert refused(lambda: door.finish(**answer)) == "stale"


@pytest.mark.parametrize("cookie", [None, "", "x", "!" * 43, "a" * 44, "ü" * 43])
def test_a_cookie_that_is_not_ours_binds_nothing(cookie: str | None):
    assert BrowserSecret.of(cookie) is None


def test_the_database_holds_nothing_with_which_to_finish(door: Door):
    url = query_of(door.begin())
    (row,) = door.house.sql("SELECT * FROM oidc_attempts")
    text = repr(row)
    for known in (url["state"], url["nonce"], url["code_challenge"], door.secret.value):
        assert known not in text
    assert door.secret.value not in repr(door.secret)


def test_each_attempt_has_a_nonce_and_a_challenge_of_its_own(lasting: Door):
    first, second = query_of(lasting.begin()), query_of(lasting.begin())
    for name in ("state", "nonce", "code_challenge"):
        assert first[name] != second[name]
    assert first["code_challenge_method"] == "S256"


# --- codes ---


@pytest.mark.usefixtures("nobody_came")
def test_a_code_that_was_smuggled_in_finds_no_verifier(lasting: Door):
    """Code injection: the code of the victim's answer, put into an attempt of the attacker's."""
    victim = Door(lasting.house, lasting.provider)
    stolen = lasting.provider.answer(victim.begin())
    own = lasting.provider.answer(lasting.begin())
    assert refused(lambda: lasting.finish(**{**own, "code": stolen["code"]})) == "not-verified"


# --- id tokens ---

CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "issuer with a slash more": {"iss": "SLASH"},
    "no issuer": {"iss": None},
    "another nonce": {"nonce": "x"},
    "no nonce": {"nonce": None},
    "another audience": {"aud": "another-client"},
    "no audience": {"aud": None},
    "another audience, with our azp": {"aud": ["another-client"], "azp": "papita"},
    "several audiences and no azp": {"aud": ["papita", "another-client"]},
    "several audiences and another azp": {"aud": ["papita", "other"], "azp": "other"},
    "one audience and another azp": {"aud": "papita", "azp": "other"},
    "expired": {"exp": 1_700_000_000},
    "never expires": {"exp": None},
    "expires at NaN": {"exp": float("nan")},
    "expires as text": {"exp": "9999999999"},
    "issued in the future": {"iat": 32_503_680_000},
    "no time of issue": {"iat": None},
    "not valid yet": {"nbf": 32_503_680_000},
    "another access token": {"at_hash": "x"},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is no text": {"sub": 5},
    "a subject that is too long": {"sub": "x" * 301},
    "a subject with a control character": {"sub": "a\nb"},
}


@pytest.mark.usefixtures("nobody_came")
@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS.keys())
def test_an_id_token_whose_claims_are_not_right(
    lasting: Door, claims: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    if claims.get("iss") == "SLASH":
        claims = {"iss": lasting.provider.issuer + "/"}
    assert refused(lambda: lasting.sign_in(**claims)) == "not-verified"
    assert "evil.example" not in caplog.text


SIGNERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], str]] = {
    "alg none": unsigned,
    "alg None": lambda header, claims: unsigned(header, claims).replace("none", "None"),
    "HS256 with the client's secret": signed_with_the_secret,
    "HS256 with the public key": signed_with_the_public_key,
    "no token": lambda header, claims: "x",
    "two parts": lambda header, claims: "eyJhbGciOiJSUzI1NiJ9.e30",
    "not ASCII": lambda header, claims: "ü.ü.ü",
    "much too long": lambda header, claims: "a" * 100_000,
}


@pytest.mark.usefixtures("nobody_came")
@pytest.mark.parametrize("sign", SIGNERS.values(), ids=SIGNERS.keys())
def test_a_token_that_only_looks_signed(
    lasting: Door, sign: Callable[[dict[str, Any], dict[str, Any]], str]
):
    # Even a provider that says it would sign so is not believed.
    lasting.provider.sign = sign
    assert refused(lasting.sign_in) == "not-verified"


def test_a_signature_of_another_key_with_the_same_name(door: Door):
    honest = door.provider.keys
    door.sign_in()

    def forged(header: dict[str, Any], claims: dict[str, Any]) -> str:
        door.provider.keys = [signing_key("other")]
        try:
            return door.provider.signed(header, claims)
        finally:
            door.provider.keys = honest

    door.provider.sign = forged
    assert refused(door.sign_in) == "not-verified"


def test_a_signature_that_was_changed(lasting: Door):
    def flipped(header: dict[str, Any], claims: dict[str, Any]) -> str:
        token = lasting.provider.signed(header, claims)
        head, _, signature = token.rpartition(".")
        return f"{head}.{signature[:20]}{'A' if signature[20] != 'A' else 'B'}{signature[21:]}"

    lasting.provider.sign = flipped
    assert refused(lasting.sign_in) == "not-verified"


def test_an_algorithm_that_the_provider_does_not_claim(lasting: Door):
    lasting.provider.keys = [signing_key("one", "EC")]
    lasting.provider.document["id_token_signing_alg_values_supported"] = ["RS256"]
    lasting.provider.header = {"alg": "ES256"}
    assert refused(lasting.sign_in) == "not-verified"


def test_elliptic_curves_are_fine_where_they_are_claimed(door: Door):
    door.provider.keys = [signing_key("one", "EC")]
    door.provider.header = {"alg": "ES256"}
    assert door.sign_in().user is not None


def test_a_key_that_was_changed_is_fetched_and_a_flood_of_unknown_ones_is_not(door: Door):
    door.sign_in()
    assert door.provider.asked["/keys"] == 1
    door.provider.header = {"kid": "unknown"}
    for _ in range(5):
        assert refused(door.sign_in) == "not-verified"
    assert door.provider.asked["/keys"] == 1
    door.house.clock.forward(seconds=31)
    for _ in range(5):
        assert refused(door.sign_in) == "not-verified"
    assert door.provider.asked["/keys"] == 2
    # A rotation of keys goes through by itself.
    door.house.clock.forward(seconds=31)
    door.provider.keys = [signing_key("unknown")]
    assert door.sign_in().user is not None
    assert door.provider.asked["/keys"] == 3


def test_a_key_that_was_taken_back_is_not_believed_for_long(door: Door):
    old = door.provider.keys
    door.sign_in()

    def with_the_old_one(header: dict[str, Any], claims: dict[str, Any]) -> str:
        door.provider.keys = old
        try:
            return HostileProvider.signed(door.provider, header, claims)
        finally:
            door.provider.keys = [signing_key("two")]

    door.provider.keys, door.provider.sign = [signing_key("two")], with_the_old_one
    door.house.clock.forward(minutes=11)
    door.provider.claims |= {"exp": 32_503_680_000}
    assert refused(door.sign_in) == "not-verified"


@pytest.mark.parametrize(
    "answer",
    [
        {"id_token": None},
        {"id_token": 5},
        {"access_token": None},
        {"token_type": "mac"},
        {"error": "invalid_grant"},
    ],
    ids=str,
)
def test_answers_of_the_token_endpoint_that_are_none(lasting: Door, answer: dict[str, Any]):
    lasting.provider.token_answer = answer
    assert refused(lasting.sign_in) == "not-verified"


# --- several providers ---


@pytest.fixture
def other() -> Any:
    with HostileProvider() as provider:
        yield provider


def test_an_answer_of_another_issuer_is_refused_before_its_code_is_sent_anywhere(
    door: Door, other: HostileProvider
):
    """Mix-up (RFC 9207): the code of an honest provider is brought to a hostile one."""
    for provider in (door.provider, other):
        provider.document["authorization_response_iss_parameter_supported"] = True
    door.configure(door.provider.table("corp"), other.table("other", sign_up=True))
    answer = door.provider.answer(door.begin("other"))
    for iss in (door.provider.issuer, "", other.issuer + "/"):
        answer = door.provider.answer(door.begin("other"))
        assert refused(lambda a=answer, i=iss: door.finish(**a, iss=i)) == "not-verified"
    answer = door.provider.answer(door.begin("other"))
    assert refused(lambda: door.finish(**answer)) == "not-verified"
    assert other.token_requests == []
    assert door.provider.token_requests == []
    honest = other.answer(door.begin("other"))
    assert door.finish(**honest, iss=other.issuer).user is not None


def test_iss_counts_even_where_nobody_promised_it(lasting: Door):
    answer = lasting.provider.answer(lasting.begin())
    assert refused(lambda: lasting.finish(**answer, iss="https://evil.example")) == "not-verified"


def test_of_several_providers_each_says_whose_answer_it_is(
    door: Door, other: HostileProvider, caplog: pytest.LogCaptureFixture
):
    """Who sends no iss needs an address of its own, at which no other's answers are heard."""
    other.document["authorization_response_iss_parameter_supported"] = True
    door.configure(door.provider.table("corp"), other.table("other"))
    with caplog.at_level(logging.ERROR):
        assert refused(door.begin) == "misconfigured"
    assert "own_callback = true" in caplog.text


def test_an_answer_at_the_address_of_another_provider(door: Door, other: HostileProvider):
    door.configure(
        door.provider.table("corp", own_callback=True),
        other.table("other", own_callback=True, sign_up=True),
    )
    url = door.begin("other")
    assert query_of(url)["redirect_uri"].endswith("/auth/oidc/callback/other")
    for callback in ("corp", None):
        answer = door.provider.answer(door.begin("other"))
        assert refused(lambda a=answer, c=callback: door.finish(**a, callback=c)) == "not-verified"
    assert other.token_requests == door.provider.token_requests == []
    honest = other.answer(door.begin("other"))
    assert door.finish(**honest, callback="other").user is not None


def test_the_same_subject_at_another_provider_is_somebody_else(door: Door, other: HostileProvider):
    door.configure(
        door.provider.table("corp", own_callback=True, sign_up=True),
        other.table("other", own_callback=True, sign_up=True),
    )
    answer = door.provider.answer(door.begin("corp"), sub="1", email="ana@a.example")
    first = door.finish(**answer, callback="corp").user
    answer = other.answer(door.begin("other"), sub="1", email="ana@b.example")
    second = door.finish(**answer, callback="other").user
    assert first is not None
    assert second is not None
    assert first.id != second.id


# --- what the provider says of itself ---


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"issuer": "https://evil.example"}, "misconfigured"),
        ({"issuer": None}, "misconfigured"),
        ({"token_endpoint": "http://evil.example/token"}, "misconfigured"),
        ({"jwks_uri": "file:///etc/passwd"}, "misconfigured"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "misconfigured"),
        ({"authorization_endpoint": None}, "misconfigured"),
        ({"code_challenge_methods_supported": ["plain"]}, "misconfigured"),
        ({"id_token_signing_alg_values_supported": ["HS256", "none"]}, "misconfigured"),
    ],
    ids=str,
)
def test_a_document_that_cannot_be_right(
    door: Door, document: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
):
    door.provider.document = document
    assert refused(door.begin) == reason
    assert "provider corp" in caplog.text
    assert "evil.example" not in caplog.text


def test_a_provider_that_is_down_is_asked_again_after_a_while(door: Door):
    door.provider.document = {"issuer": "x"}
    for _ in range(5):
        assert refused(door.begin) == "misconfigured"
    assert door.provider.asked["/.well-known/openid-configuration"] == 1
    door.provider.document = {}
    assert refused(door.begin) == "misconfigured"
    door.house.clock.forward(seconds=11)
    door.begin()
    door.begin()
    assert door.provider.asked["/.well-known/openid-configuration"] == 2
    door.house.clock.forward(hours=2)
    door.begin()
    assert door.provider.asked["/.well-known/openid-configuration"] == 3


def test_a_provider_that_does_not_answer(door: Door):
    door.configure(table("corp", "http://127.0.0.1:9"))
    assert refused(door.begin) == "unreachable"


@pytest.mark.usefixtures("nobody_came")
def test_userinfo_of_somebody_else(door: Door):
    door.provider.userinfo = {"sub": "two"}
    assert refused(lambda: door.sign_in(email=None)) == "not-verified"


def test_userinfo_is_asked_only_if_something_is_missing(door: Door):
    door.sign_in()
    assert "/me" not in door.provider.asked
    door.sign_in(sub="2", email=None)
    assert door.provider.asked["/me"] == 1
    door.sign_in(sub="2", email=None)
    assert door.provider.asked["/me"] == 1


def test_a_client_secret_that_is_wrong_is_the_administrators_to_mend(
    door: Door, caplog: pytest.LogCaptureFixture
):
    door.provider.token_answer, door.provider.token_status = {"error": "invalid_client"}, 401
    assert refused(door.sign_in) == "misconfigured"
    assert "client_id and client_secret" in caplog.text
    assert CLIENT_SECRET not in caplog.text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("access_denied", "declined"),
        ("server_error", "unreachable"),
        ("<script>", "misconfigured"),
    ],
)
def test_errors_of_the_provider_and_where_to_go_back_to(lasting: Door, error: str, reason: str):
    answer = lasting.provider.answer(lasting.begin(next_page="/al-chat"))
    with pytest.raises(Refused) as caught:
        lasting.finish(state=answer["state"], error=error)
    assert (caught.value.reason, caught.value.next_page) == (reason, "/al-chat")
    assert "script" not in str(caught.value)
    # It is used up as well.
    assert refused(lambda: lasting.finish(**answer)) == "stale"


# --- logout tokens ---


def logout(door: Door, token: str) -> int:
    return door.house.papita.oidc.back_channel_logout(token)


def session_there(door: Door, sid: str | None = None, **claims: Any) -> str:
    done = door.sign_in(sid=sid, **claims)
    assert done.user is not None
    papita = door.house.papita
    started = papita.sessions.start(done.user.id, method="oidc", provider=done.session)
    papita.sessions.redeem(started.ticket)
    return started.session.id


def live(door: Door, *sessions: str) -> list[bool]:
    return [door.house.papita.sessions.by_id(one) is not None for one in sessions]


@both_engines
def test_a_logout_token_ends_one_session_by_sid_and_all_by_subject(door: Door):
    one, two = session_there(door, "s1"), session_there(door, "s2")
    somebody = session_there(door, "s3", sub="2", email="two@corp.example")
    assert logout(door, door.provider.logout_token(sub=None, sid="s1")) == 1
    assert live(door, one, two, somebody) == [False, True, True]
    three = session_there(door, "s4", sub="one", email="one@corp.example")
    assert logout(door, door.provider.logout_token(sub="one")) == 2
    assert live(door, two, three, somebody) == [False, False, True]


@both_engines
def test_a_logout_token_serves_once(door: Door):
    session_there(door)
    token = door.provider.logout_token(sub="one")
    assert logout(door, token) == 1
    with pytest.raises(LogoutTokenRefused):
        logout(door, token)


LOGOUT_CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "another audience": {"aud": "another"},
    "no audience": {"aud": None},
    "no time": {"iat": None},
    "old": {"iat": 1_700_000_000, "exp": None},
    "from the future": {"iat": 32_503_680_000},
    "expired": {"exp": 1_700_000_000},
    "no jti": {"jti": None},
    "no events": {"events": None},
    "another event": {"events": {"http://schemas.openid.net/event/other": {}}},
    "an event that is no object": {
        "events": {"http://schemas.openid.net/event/backchannel-logout": True}
    },
    "an id token": {"nonce": "x"},
    "neither sid nor subject": {"sub": None},
    "a subject that is no text": {"sub": ["one"]},
    "a strange sid": {"sid": {"x": 1}},
    "a sid of nobody and the subject": {"sid": "x" * 400},
}


@pytest.mark.parametrize("claims", LOGOUT_CLAIMS.values(), ids=LOGOUT_CLAIMS.keys())
def test_a_logout_token_that_is_none(lasting: Door, claims: dict[str, Any]):
    session = session_there(lasting)
    with pytest.raises(LogoutTokenRefused):
        logout(lasting, lasting.provider.logout_token(**claims))
    assert live(lasting, session) == [True]


@pytest.mark.parametrize("sign", SIGNERS.values(), ids=SIGNERS.keys())
def test_a_logout_token_that_only_looks_signed(
    lasting: Door, sign: Callable[[dict[str, Any], dict[str, Any]], str]
):
    session = session_there(lasting)
    lasting.provider.sign = sign
    with pytest.raises((LogoutTokenRefused, Refused)):
        logout(lasting, lasting.provider.logout_token())
    assert live(lasting, session) == [True]


def test_an_id_token_is_no_logout_token(lasting: Door):
    session = session_there(lasting)
    with pytest.raises(LogoutTokenRefused):
        logout(lasting, lasting.provider.id_token({"nonce": "x"}, "access"))
    with pytest.raises(LogoutTokenRefused):
        logout(lasting, lasting.provider.logout_token({"typ": "at+jwt"}))
    assert live(lasting, session) == [True]
