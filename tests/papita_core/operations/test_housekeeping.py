"""What has ended goes, what lives stays, and a failure ends nothing."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import pytest

from papita_core.operations import housekeeping
from papita_core.operations.housekeeping import Housekeeper, Housekeeping
from papita_core.users.models import OidcAttempt, OneTimeLink
from papita_core.vault.service import NewCredential
from tests.papita_core.house import KEY, House, both_engines

TABLES = (
    "leases",
    "sign_in_sessions",
    "idempotent_requests",
    "setup_codes",
    "attempt_counters",
    "oidc_attempts",
    "one_time_links",
    "usage_reports",
)
NOTHING = dict.fromkeys(TABLES, 0)


def nothing() -> None:
    """The signing key is not due."""


def tidy(house: House) -> dict[str, int]:
    return house.papita.housekeeping.run_once()


def count(house: House, table: str) -> int:
    return int(house.sql(f"SELECT count(*) FROM {table}")[0][0])


@both_engines
def test_leases_go_a_week_after_they_ended(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    house.project_token(ana)
    house.clock.forward(days=7, minutes=4)  # it ran for five minutes
    assert tidy(house) == NOTHING
    house.clock.forward(minutes=2)
    assert tidy(house) == {**NOTHING, "leases": 1}
    assert count(house, "leases") == 0
    assert count(house, "sign_in_sessions") == 1


@both_engines
def test_a_revoked_lease_goes_a_week_after_that(house: House):
    ana = house.sign_in("ana")
    house.project_token(ana)
    house.sql("UPDATE leases SET expires_at = :then", then=_naive(house, days=9))
    house.papita.grants.revoke(ana, "al-chat")
    house.clock.forward(days=6, hours=23)
    assert tidy(house) == NOTHING
    house.clock.forward(hours=2)
    assert tidy(house)["leases"] == 1


def _naive(house: House, **ahead: float) -> object:
    then = house.clock() + timedelta(**ahead)
    return then.replace(tzinfo=None) if house.papita.database.is_sqlite else then


@both_engines
def test_sessions_go_thirty_days_after_they_ended(house: House):
    over = house.sign_in("over")
    assert over.session_id is not None
    house.papita.sessions.end(over.session_id)
    house.sign_in("runs-out")  # after fourteen days
    house.clock.forward(days=29)
    assert tidy(house) == NOTHING
    house.clock.forward(days=2)
    assert tidy(house) == {**NOTHING, "sign_in_sessions": 1}
    house.clock.forward(days=14)
    assert tidy(house) == {**NOTHING, "sign_in_sessions": 1}
    assert count(house, "sign_in_sessions") == 0
    assert count(house, "users") == 2


@both_engines
def test_answers_that_were_kept_for_repetition_go_after_a_day(house: House):
    ana = house.sign_in("ana")
    new = NewCredential("openai", {"api_key": KEY})
    house.papita.credentials.create(ana, new, idempotency_key="once")
    house.clock.forward(hours=23)
    assert tidy(house) == NOTHING
    house.clock.forward(hours=2)
    assert tidy(house) == {**NOTHING, "idempotent_requests": 1}
    assert count(house, "credentials") == 1


@both_engines
def test_set_up_codes_go_when_they_are_over(house: House):
    house.papita.setup.issue_code()
    assert tidy(house) == NOTHING
    house.clock.forward(minutes=61)
    assert tidy(house) == {**NOTHING, "setup_codes": 1}


def add(house: House, *rows: object) -> None:
    with house.papita.database.write() as session:
        session.add_all(rows)


@both_engines
def test_sign_ins_at_a_provider_go_when_they_are_over(house: House):
    now = house.clock()
    attempt = OidcAttempt(
        state_hash="x",
        provider="team",
        purpose="sign-in",
        next_page="",
        created_at=now,
        expires_at=now + timedelta(minutes=10),
    )
    add(house, attempt)
    assert tidy(house) == NOTHING
    house.clock.forward(minutes=11)
    assert tidy(house) == {**NOTHING, "oidc_attempts": 1}


@both_engines
def test_links_go_thirty_days_after_they_ended(house: House):
    now = house.clock()
    for number, ended in enumerate(({}, {"used_at": now}, {"revoked_at": now})):
        link = OneTimeLink(
            id=str(number),
            kind="invitation",
            token_hash=str(number),
            created_by="operator",
            created_at=now,
            expires_at=now + timedelta(days=7),
            **ended,
        )
        add(house, link)
    house.clock.forward(days=29)
    assert tidy(house) == NOTHING
    house.clock.forward(days=2)
    assert tidy(house) == {**NOTHING, "one_time_links": 2}
    house.clock.forward(days=7)
    assert tidy(house) == {**NOTHING, "one_time_links": 1}


@both_engines
def test_many_go_in_batches(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(housekeeping, "AT_ONCE", 3)
    user = house.user("ana")
    for _ in range(7):
        house.papita.sessions.start(user)
    house.clock.forward(days=45)
    house.papita.sessions.start(user)
    assert tidy(house)["sign_in_sessions"] == 7
    assert count(house, "sign_in_sessions") == 1


@both_engines
def test_a_signing_key_that_is_due_is_rotated(house: House):
    before = house.papita.ring.purpose_key("user-token")[0]
    tidy(house)
    assert house.papita.ring.purpose_key("user-token")[0] == before
    house.clock.forward(days=91)
    tidy(house)
    assert house.papita.ring.purpose_key("user-token")[0] != before


def test_it_runs_again_and_again_and_a_failure_is_logged(
    house: House, caplog: pytest.LogCaptureFixture
):
    rounds = threading.Semaphore(0)

    def fail() -> None:
        rounds.release()
        raise OSError("the disk is away")

    keeper = Housekeeper(Housekeeping(house.papita.database, fail, house.clock))
    with caplog.at_level(logging.INFO):
        keeper.start(every=0.01)
        keeper.start(every=0.01)  # one thread is enough
        assert len([t for t in threading.enumerate() if t.name == "papita-housekeeping"]) == 1
        assert rounds.acquire(timeout=30)
        assert rounds.acquire(timeout=30)
        keeper.close()
    assert "papita-housekeeping" not in {thread.name for thread in threading.enumerate()}
    assert "the housekeeping failed" in caplog.text
    keeper.start()
    assert "papita-housekeeping" not in {thread.name for thread in threading.enumerate()}


def test_it_does_not_start_by_itself_and_ends_with_papita(house: House):
    papita = house.papita
    assert "papita-housekeeping" not in {thread.name for thread in threading.enumerate()}
    papita.setup.issue_code()
    house.clock.forward(hours=2)
    papita.housekeeping.start()
    papita.close()
    assert "papita-housekeeping" not in {thread.name for thread in threading.enumerate()}


@both_engines
def test_the_ids_of_reports_stay_longer_than_what_they_were_about(house: House):
    house.sql(
        "INSERT INTO usage_reports (project_id, id, received_at) VALUES ('al-chat', 'r', :now)",
        now=_naive(house),
    )
    house.clock.forward(days=29)
    assert tidy(house)["usage_reports"] == 0
    house.clock.forward(days=2)
    assert tidy(house)["usage_reports"] == 1
