"""Borrowed keys: anew for each answer, on record for its run, and watched while it is written."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ScriptedProvider, Service, ask, follow_to_end, text_of, wait_until
from fake_papita import CLIENT, FakePapita

from alchat_core.auth import User
from alchat_core.client import AlChatClient, UserClient
from alchat_core.credential_manager import CredentialManager, Loan
from alchat_core.errors import RUN_ERRORS, RunError
from alchat_core.papita import PapitaClient
from alchat_core.secret import Secret
from alchat_core.settings import Settings
from demo.provider.scripts import script_for
from tests.alchat_core.starter import Starter

LONG = "stream-3000-10"
CHECK_SECONDS = 0.1


@pytest.fixture(scope="module")
def quick_service(
    tmp_path_factory: pytest.TempPathFactory,
    _papita: FakePapita,
    provider: ScriptedProvider,
    starter: Starter,
) -> Iterator[Service]:
    """A service that asks Papita often, so that tests need not wait."""
    running = Service(
        tmp_path_factory.mktemp("quick"),
        _papita.url,
        provider.origin,
        starter,
        ALCHAT_PAPITA_TIMEOUT="3.0",
        ALCHAT_LEASE_CHECK_SECONDS=str(CHECK_SECONDS),
    )
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def quick_client(quick_service: Service) -> Iterator[AlChatClient]:
    client = AlChatClient(quick_service.url)
    yield client
    client.close()


@pytest.fixture
def quick(quick_client: AlChatClient, papita: FakePapita, username: str) -> UserClient:
    """A user of that service."""
    return quick_client.as_user(lambda: papita.token_for(username))


def checks_of(papita: FakePapita, username: str) -> list[list[str]]:
    """The credentials of each question that was about this user, too."""
    asked = [[one for _, one in pairs] for pairs in papita.checks]
    return [names for names in asked if f"credential-{username}" in names]


def begin(user: UserClient, model: str = LONG) -> tuple[str, str]:
    """A conversation and a run whose first words are there."""
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model=model)
    wait_until(lambda: user.run(sent.run_id).last_event >= 2)
    return conversation.id, sent.run_id


def test_the_key_is_asked_for_anew_for_each_answer_with_its_run(
    user: UserClient, papita: FakePapita, username: str
) -> None:
    runs = []
    for _ in range(3):
        conversation = user.create_conversation()
        runs.append(user.send(conversation.id, "hello", model="echo").run_id)
        follow_to_end(user, runs[-1])
    assert papita.runs[username] == runs
    assert papita.exchanges[username] == 1
    user.models()
    assert papita.runs[username] == [*runs, None]
    assert papita.exchanges[username] == 1


def test_trying_again_borrows_again(user: UserClient, papita: FakePapita, username: str) -> None:
    conversation = user.create_conversation()
    first = user.send(conversation.id, "hello", model="error-401")
    follow_to_end(user, first.run_id)
    question = user.messages(conversation.id).items[0]
    second = user.retry(question.id, model="echo")
    follow_to_end(user, second.run_id)
    assert papita.runs[username] == [first.run_id, second.run_id]


def test_a_new_key_in_papita_is_used_by_the_next_answer(
    user: UserClient, papita: FakePapita
) -> None:
    assert ask(user, "echo")[-1].type == "run.completed"
    papita.api_key = "wrong-key"
    assert ask(user, "echo")[-1].data["code"] == "credential-rejected"
    papita.api_key = "sk-demo-new"
    assert ask(user, "echo")[-1].type == "run.completed"


def test_answers_that_begin_together_share_one_exchange(
    user: UserClient, papita: FakePapita, username: str
) -> None:
    conversations = [user.create_conversation() for _ in range(4)]
    ends: list[str] = []

    def answer(conversation_id: str) -> None:
        sent = user.send(conversation_id, "hello", model="echo")
        ends.append(follow_to_end(user, sent.run_id)[-1].type)

    threads = [threading.Thread(target=answer, args=(one.id,)) for one in conversations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == ["run.completed"] * 4
    assert papita.exchanges[username] == 1
    assert papita.loans[username] == 4


def test_two_sign_ins_of_one_user_do_not_share_a_token(
    client: AlChatClient, papita: FakePapita, username: str
) -> None:
    for session in ("one", "two", "one"):
        user = client.as_user(lambda session=session: papita.token_for(username, sid=session))
        assert ask(user, "echo")[-1].type == "run.completed"
    assert papita.exchanges[username] == 2


def test_a_project_token_that_opens_nothing_any_more_is_exchanged_once_more(
    user: UserClient, papita: FakePapita, username: str
) -> None:
    ask(user, "echo")
    papita.forget_tokens()
    assert ask(user, "echo")[-1].type == "run.completed"
    assert (papita.exchanges[username], papita.loans[username]) == (2, 2)
    # Once: a Papita that refuses every token is not asked for ever.
    papita.behaviour = "credential-401"
    assert ask(user, "echo")[-1].data["code"] == "session-ended"
    assert papita.exchanges[username] == 3


def test_a_project_token_is_not_used_beyond_its_end(
    user: UserClient, papita: FakePapita, username: str
) -> None:
    papita.token_seconds = 0.4
    ask(user, "echo")
    time.sleep(0.5)
    ask(user, "echo")
    assert papita.exchanges[username] == 2


def test_permission_that_was_taken_back_and_given_again_serves_the_next_answer(
    user: UserClient, papita: FakePapita, username: str
) -> None:
    ask(user, "echo")
    papita.ended[username] = "consent-required"
    assert ask(user, "echo")[-1].data["code"] == "consent-required"
    papita.ended.clear()
    assert ask(user, "echo")[-1].type == "run.completed"


def test_a_run_tells_which_credential_it_used(
    user: UserClient, papita: FakePapita, username: str
) -> None:
    papita.credential_type = "openrouter"
    sent = user.send(user.create_conversation().id, "hello", model="echo")
    follow_to_end(user, sent.run_id)
    run = user.run(sent.run_id)
    assert (run.credential_id, run.credential_type) == (f"credential-{username}", "openrouter")
    papita.behaviour = "vault-sealed"
    sent = user.send(user.create_conversation().id, "hello", model="echo")
    follow_to_end(user, sent.run_id)
    run = user.run(sent.run_id)
    assert (run.credential_id, run.credential_type) == (None, None)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("consent-required", "consent-required"),
        ("credential-disabled", "credential-disabled"),
        ("credential-missing", "credential-missing"),
        ("credential-not-found", "credential-missing"),
        ("credential-expired", "credential-expired"),
        ("project-disabled", "project-disabled"),
        ("user-disabled", "session-ended"),
    ],
)
def test_a_loan_that_ends_stops_the_answer_and_keeps_its_text(
    quick: UserClient,
    papita: FakePapita,
    username: str,
    provider: ScriptedProvider,
    code: str,
    told: str,
) -> None:
    conversation, run = begin(quick)
    papita.ended[username] = code
    events = follow_to_end(quick, run, timeout=5)
    assert events[-1].type == "run.failed"
    assert events[-1].data["code"] == told
    assert "What is written so far is kept." in events[-1].data["message"]
    assert events[-1].data["retryable"] is False
    wait_until(lambda: provider.requests()["recent"][-1]["state"] == "closed-by-client")
    answer = quick.messages(conversation).items[-1]
    assert answer.content == text_of(events)
    assert script_for(LONG).text.startswith(answer.content)
    assert answer.error is not None
    assert answer.error.code == told
    assert quick.conversation(conversation).active_run_id is None
    papita.ended.clear()
    again = quick.send(conversation, "once more", model="echo")
    assert follow_to_end(quick, again.run_id)[-1].type == "run.completed"


def test_with_the_settings_as_they_are_a_revocation_reaches_a_running_answer_soon(
    user: UserClient, papita: FakePapita, username: str
) -> None:
    _, run = begin(user)
    papita.ended[username] = "consent-required"
    wait_until(lambda: user.run(run).state == "failed", 4.0)


def test_of_two_users_only_the_one_is_stopped_who_took_the_permission_back(
    quick: UserClient, quick_client: AlChatClient, papita: FakePapita, username: str
) -> None:
    bob = quick_client.as_user(lambda: papita.token_for(f"bob-{username}"))
    runs = [begin(quick)[1], begin(quick)[1]]
    _, other = begin(bob)
    papita.ended[username] = "consent-required"
    for run in runs:
        assert follow_to_end(quick, run, timeout=5)[-1].data["code"] == "consent-required"
    # Whoever has ended is not asked about again.
    asked = len(checks_of(papita, f"bob-{username}"))
    wait_until(lambda: len(checks_of(papita, f"bob-{username}")) > asked + 2)
    assert checks_of(papita, f"bob-{username}")[-1] == [f"credential-bob-{username}"]
    assert bob.run(other).active
    assert bob.cancel(other).state == "cancelled"


def test_signing_out_does_not_stop_an_answer(
    quick: UserClient, papita: FakePapita, username: str
) -> None:
    conversation = quick.create_conversation()
    sent = quick.send(conversation.id, "hello", model="stream-60-10")
    wait_until(lambda: quick.run(sent.run_id).last_event >= 2)
    papita.ended[username] = "session-ended"
    wait_until(lambda: len(checks_of(papita, username)) > 2)
    assert follow_to_end(quick, sent.run_id)[-1].type == "run.completed"
    again = quick.send(conversation.id, "once more", model="echo")
    assert follow_to_end(quick, again.run_id)[-1].data["code"] == "session-ended"


def test_papita_is_asked_only_while_something_is_written(
    quick: UserClient, papita: FakePapita, username: str
) -> None:
    quick.conversations()
    time.sleep(3 * CHECK_SECONDS)
    assert checks_of(papita, username) == []
    _, run = begin(quick)
    wait_until(lambda: len(checks_of(papita, username)) >= 2)
    quick.cancel(run)
    asked = len(papita.checks)
    time.sleep(5 * CHECK_SECONDS)
    # One question may have been on its way.
    assert len(papita.checks) <= asked + 1
    # Two answers with one key are one thing to ask about.
    runs = [begin(quick)[1], begin(quick)[1]]
    asked = len(checks_of(papita, username))
    wait_until(lambda: len(checks_of(papita, username)) >= asked + 2)
    assert checks_of(papita, username)[-1] == [f"credential-{username}"]
    for run in runs:
        quick.cancel(run)


@pytest.mark.parametrize(
    "behaviour",
    [
        *("check-404", "check-401", "check-500", "check-nonsense", "check-other-nonsense"),
        "check-hang",
    ],
)
def test_a_papita_that_does_not_say_stops_nothing(
    quick: UserClient,
    quick_service: Service,
    papita: FakePapita,
    username: str,
    behaviour: str,
) -> None:
    begin_of_log = len(quick_service.log.read_text())
    papita.behaviour = behaviour
    conversation = quick.create_conversation()
    sent = quick.send(conversation.id, "hello", model="stream-100-10")
    assert follow_to_end(quick, sent.run_id)[-1].type == "run.completed"
    complaints = quick_service.log.read_text()[begin_of_log:].count("answers go on")
    assert complaints == (behaviour != "check-hang")
    # And it is heard when it speaks again.
    papita.behaviour = ""
    _, run = begin(quick)
    papita.ended[username] = "consent-required"
    assert follow_to_end(quick, run, timeout=8)[-1].data["code"] == "consent-required"


def test_a_papita_that_is_gone_for_a_while_stops_nothing(
    quick: UserClient, quick_service: Service, papita: FakePapita, username: str
) -> None:
    begin_of_log = len(quick_service.log.read_text())
    _, run = begin(quick)
    papita.stop()
    try:
        wait_until(lambda: "answers go on" in quick_service.log.read_text()[begin_of_log:])
        time.sleep(3 * CHECK_SECONDS)
        assert quick.run(run).active
    finally:
        papita.start()
    assert quick_service.log.read_text()[begin_of_log:].count("answers go on") == 1
    papita.ended[username] = "project-disabled"
    assert follow_to_end(quick, run, timeout=8)[-1].data["code"] == "project-disabled"


def test_the_watch_can_be_switched_off(
    own_service: Callable[..., Service], papita: FakePapita, username: str
) -> None:
    client = AlChatClient(own_service(ALCHAT_LEASE_CHECK_SECONDS="0").url)
    user = client.as_user(lambda: papita.token_for(username))
    assert ask(user, "stream-40-10")[-1].type == "run.completed"
    assert checks_of(papita, username) == []
    client.close()


def test_stop_and_a_revocation_at_once_give_one_ending(
    quick: UserClient, papita: FakePapita, username: str
) -> None:
    for _ in range(5):
        papita.ended.clear()
        _, run = begin(quick)
        papita.ended[username] = "consent-required"
        time.sleep(CHECK_SECONDS)
        quick.cancel(run)
        events = follow_to_end(quick, run)
        assert sum(event.terminal for event in events) == 1
        assert events[-1].type in ("run.cancelled", "run.failed")
        assert quick.run(run).state == events[-1].type.partition(".")[2]


def test_the_sentences_speak_of_the_key_and_not_of_one_provider() -> None:
    for code, explanation in RUN_ERRORS.items():
        assert "OpenAI" not in explanation.message, code
    assert "Replace" not in RUN_ERRORS["quota-exceeded"].message


# --- loans of one moment ---


def borrow(papita: FakePapita, tmp_path: Path, names: list[str], *, warm: bool = True) -> list[Any]:
    """What each of these users gets in the same moment, for the runs `run-0`, `run-1`, …"""

    async def play() -> list[Any]:
        settings = Settings(
            papita_data_dir=tmp_path,
            alchat_client_id=CLIENT[0],
            alchat_client_secret=CLIENT[1],
            papita_api_url=papita.url,
        )
        client = PapitaClient(papita.url, timeout=10)
        manager = CredentialManager(settings, client)
        users = [
            User(f"user-{name}", name, f"session-{name}", Secret(papita.token_for(name)), 1e12)
            for name in names
        ]
        behaviour, papita.behaviour = papita.behaviour, ""
        if warm:
            for user in users:
                await manager.borrow(user)
        papita.behaviour = behaviour
        found = await asyncio.gather(
            *(manager.borrow(user, f"run-{number}") for number, user in enumerate(users)),
            return_exceptions=True,
        )
        await client.close()
        return list(found)

    return asyncio.run(play())


def test_loans_of_one_moment_are_one_request(
    papita: FakePapita, tmp_path: Path, username: str
) -> None:
    names = [f"{username}-{number}" for number in range(70)]
    loans = borrow(papita, tmp_path, names)
    assert all(isinstance(loan, Loan) for loan in loans)
    assert [loan.credential_id for loan in loans] == [f"credential-{name}" for name in names]
    assert sorted(papita.together) == [6, 64]  # both are on their way at once
    # Each is on the record by itself, for its own run.
    assert [papita.runs[name] for name in names] == [[None, f"run-{n}"] for n in range(70)]


def test_one_alone_is_asked_for_alone(papita: FakePapita, tmp_path: Path, username: str) -> None:
    (loan,) = borrow(papita, tmp_path, [username])
    assert isinstance(loan, Loan)
    assert papita.together == []
    assert papita.loans[username] == 2


def test_what_is_refused_to_one_changes_nothing_for_the_others(
    papita: FakePapita, tmp_path: Path, username: str
) -> None:
    names = [f"{username}-{number}" for number in range(4)]
    borrow(papita, tmp_path, names)
    papita.together.clear()
    papita.ended[names[2]] = "consent-required"
    loans = borrow(papita, tmp_path, names, warm=False)
    assert [isinstance(loan, Loan) for loan in loans] == [True, True, False, True]
    assert isinstance(loans[2], RunError)
    assert loans[2].code == "consent-required"
    assert [papita.loans[name] for name in names] == [3, 3, 2, 3]


@pytest.mark.parametrize(
    "code", ["budget-exceeded", "rate-limited", "credential-expired", "vault-sealed"]
)
def test_a_refusal_says_together_what_it_says_alone(
    papita: FakePapita,
    tmp_path: Path,
    username: str,
    code: str,
) -> None:
    papita.behaviour = code
    refused = borrow(papita, tmp_path, [f"{username}-1", f"{username}-2"])
    assert papita.together == [2]
    (alone,) = borrow(papita, tmp_path, [f"{username}-1"])
    for one in (*refused, alone):
        assert (one.code, one.message) == (code, alone.message)
        assert (one.retry_after is None) == (alone.retry_after is None)
    if code == "rate-limited":
        assert [one.retry_after for one in (*refused, alone)] == [9, 9, 9]


def test_a_papita_that_does_not_know_the_question_is_asked_for_each(
    papita: FakePapita, tmp_path: Path, username: str
) -> None:
    papita.behaviour = "loans-404"
    names = [f"{username}-{number}" for number in range(3)]
    loans = borrow(papita, tmp_path, names)
    assert all(isinstance(loan, Loan) for loan in loans)
    assert papita.together == []
    assert [papita.runs[name] for name in names] == [[None, f"run-{n}"] for n in range(3)]
