"""Answers to one question beside each other, on both engines."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import permutations

import pytest
from conftest import ScriptedProvider, Service, follow_to_end, text_of, wait_until
from fake_papita import FakePapita
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.exc import OperationalError

from alchat_core.client import (
    AlChatClient,
    Conflict,
    Invalid,
    NotFound,
    Sent,
    TooMany,
    UserClient,
)
from alchat_core.db.migrate import migrate
from alchat_core.db.tables import conversations, runs
from alchat_core.runs.log import _touched
from alchat_core.runs.rows import free_lane
from demo.provider.scripts import script_for
from tests.alchat_core.starter import Starter
from tests.papita_core.postgres import Postgres

SLOW = "stream-500-20"
A_RUN = (
    (
        "INSERT INTO conversations (id, owner, pinned, archived, created_at, updated_at,"
        " last_message_at) VALUES ('c', 'ana', false, false, 1, 1, 1)"
    ),
    (
        "INSERT INTO messages (id, conversation_id, role, content, created_at) VALUES"
        " ('q', 'c', 'user', 'x', 1), ('a', 'c', 'assistant', '', 1)"
    ),
    (
        "INSERT INTO runs (id, owner, conversation_id, message_id, user_message_id, state,"
        " created_at, last_event) VALUES ('r', 'ana', 'c', 'a', 'q', 'running', 1, 1)"
    ),
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    _papita: FakePapita,
    provider: ScriptedProvider,
    starter: Starter,
) -> Iterator[Service]:
    """In place of the session's: one for each engine."""
    with ExitStack() as stack:
        settings = {}
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            settings["ALCHAT_DATABASE_URL"] = stack.enter_context(server.database())
        folder = tmp_path_factory.mktemp("beside")
        running = Service(folder, _papita.url, provider.origin, starter, **settings)
        running.start()
        yield running
        assert running.stop() == 0


@pytest.fixture(autouse=True)
def _reset(papita: FakePapita) -> FakePapita:
    return papita


@pytest.fixture
def stranger(client: AlChatClient, papita: FakePapita, username: str) -> UserClient:
    return client.as_user(lambda: papita.token_for(username + "-stranger"))


def compare(user: UserClient, *models: str) -> tuple[str, list[Sent]]:
    """A new conversation, and its first question to all of these models."""
    conversation_id = user.create_conversation().id
    first = user.send(conversation_id, "How do potatoes grow?", model=models[0])
    more = [user.retry(first.user_message_id, model=one, beside=True) for one in models[1:]]
    return conversation_id, [first, *more]


def stop(user: UserClient, answers: list[Sent]) -> None:
    for one in answers:
        user.cancel(one.run_id)


def ids(answers: list[Sent]) -> tuple[str, ...]:
    return tuple(one.message_id for one in answers)


def leaf(user: UserClient, conversation_id: str) -> str | None:
    return user.conversation(conversation_id).active_message_id


def test_answers_that_end_together_leave_the_model_of_the_one_that_counts() -> None:
    """One statement over the rows of one moment takes any of several for one conversation."""
    first = {"conversation": "one", "now": 1, "good_model": "first"}
    compared = {"conversation": "one", "now": 2, "good_model": None}
    other = {"conversation": "two", "now": 3, "good_model": None}
    for ended in permutations((first, compared, other)):
        touched = {row["conversation"]: row["good_model"] for row in _touched(ended)}
        assert touched == {"one": "first", "two": None}
        assert len(_touched(ended)) == 2


def test_three_answers_at_once_with_all_their_events(user: UserClient) -> None:
    models = ("stream-100-20", "stream-90-20", "stream-80-20")
    conversation_id, answers = compare(user, *models)
    assert len({one.user_message_id for one in answers}) == 1
    assert all(user.run(one.run_id).active for one in answers)
    assert user.conversation(conversation_id).active_run_id in {one.run_id for one in answers}
    for one, model in zip(answers, models, strict=True):
        events = follow_to_end(user, one.run_id)
        assert [event.id for event in events] == list(range(1, len(events) + 1))
        assert (events[0].data, events[-1].type) == ({"model": model}, "run.completed")
        assert text_of(events) == script_for(model).text
    question, answer = user.messages(conversation_id)
    assert (question.id, question.compared_with) == (answers[0].user_message_id, ())
    assert (answer.id, answer.compared_with) == (answers[0].message_id, ids(answers))
    kept = user.conversation(conversation_id)
    assert (kept.active_run_id, kept.active_message_id) == (None, answer.id)
    # The model of the answer that the conversation goes on from.
    assert kept.model == models[0]


def test_a_comparison_is_complete_and_in_the_order_asked_for(user: UserClient) -> None:
    conversation_id, answers = compare(user, "stream-5-1", "error-401", "stream-6-1")
    for one in answers:
        follow_to_end(user, one.run_id)
    user.rate(answers[2].message_id, "up", "clear")
    for asked in answers:
        found = user.comparison(asked.message_id)
        assert tuple(one.id for one in found) == ids(answers)
    assert [one.compared_with for one in found] == [ids(answers)] * 3
    assert [one.siblings.index for one in found if one.siblings] == [0, 1, 2]
    assert [one.error.code if one.error else None for one in found] == [
        None,
        "credential-rejected",
        None,
    ]
    assert [one.run.state for one in found if one.run] == ["completed", "failed", "completed"]
    assert found[0].feedback is None
    assert found[2].feedback is not None
    assert found[2].feedback.comment == "clear"
    assert found[2].usage is not None
    assert found[2].content == script_for("stream-6-1").text
    (listed,) = (one for one in user.messages(conversation_id) if one.role == "assistant")
    assert listed == found[0]


def test_what_is_in_no_comparison(user: UserClient, stranger: UserClient) -> None:
    conversation_id, (only,) = compare(user, "echo")
    follow_to_end(user, only.run_id)
    again = user.retry(only.user_message_id, model="echo")
    follow_to_end(user, again.run_id)
    for message_id in (only.message_id, again.message_id, only.user_message_id):
        assert user.comparison(message_id) == ()
    assert [one.compared_with for one in user.messages(conversation_id)] == [(), ()]
    # From here on there is one, and the answer that was there before is not in it.
    third = user.retry(only.user_message_id, model="echo", beside=True)
    follow_to_end(user, third.run_id)
    assert user.comparison(only.message_id) == ()
    assert len(user.comparison(third.message_id)) == 2
    with pytest.raises(NotFound):
        stranger.comparison(third.message_id)
    with pytest.raises(NotFound):
        stranger.retry(only.user_message_id, beside=True)
    with pytest.raises(NotFound):
        user.comparison("msg_unknown")
    user.delete_conversation(conversation_id)
    with pytest.raises(NotFound):
        user.comparison(third.message_id)


def test_an_answer_can_be_put_beside_one_that_is_there(user: UserClient) -> None:
    conversation_id, (first,) = compare(user, "echo")
    follow_to_end(user, first.run_id)
    second = user.retry(first.user_message_id, model="echo", beside=True)
    follow_to_end(user, second.run_id)
    user.choose_branch(conversation_id, second.message_id)
    # Beside one that stands beside another: it is the same comparison.
    third = user.retry(first.user_message_id, model="echo", beside=True)
    follow_to_end(user, third.run_id)
    assert user.messages(conversation_id).items[-1].compared_with == ids([first, second, third])
    assert leaf(user, conversation_id) == second.message_id


def test_elsewhere_it_is_an_ordinary_answer(user: UserClient) -> None:
    conversation_id, (first,) = compare(user, "echo")
    follow_to_end(user, first.run_id)
    later = user.send(conversation_id, "and onions?", model="echo")
    follow_to_end(user, later.run_id)
    other = user.retry(first.user_message_id, model="echo", beside=True)
    follow_to_end(user, other.run_id)
    assert leaf(user, conversation_id) == other.message_id
    assert user.comparison(other.message_id) == ()


def test_other_messages_are_refused_meanwhile(user: UserClient) -> None:
    conversation_id, (first,) = compare(user, "echo")
    follow_to_end(user, first.run_id)
    later = user.send(conversation_id, "and onions?", model=SLOW)
    more = user.retry(later.user_message_id, model=SLOW, beside=True)
    user.cancel(later.run_id)
    # Only the answer in the second lane is left.
    refused: list[Callable[[], object]] = [
        lambda: user.send(conversation_id, "and leeks?"),
        lambda: user.retry(later.user_message_id),
        lambda: user.retry(first.user_message_id, beside=True),
        lambda: user.go_on(later.message_id),
    ]
    for call in refused:
        with pytest.raises(Conflict) as problem:
            call()
        assert problem.value.code == "run-active"
    assert user.conversation(conversation_id).active_run_id == more.run_id
    user.cancel(more.run_id)
    follow_to_end(user, user.send(conversation_id, "and leeks?", model="echo").run_id)


def test_a_fifth_is_refused_until_one_of_the_four_has_ended(user: UserClient) -> None:
    _, answers = compare(user, SLOW, SLOW, SLOW, SLOW)
    question = answers[0].user_message_id
    with pytest.raises(Invalid, match="At most four answers"):
        user.retry(question, model=SLOW, beside=True)
    user.cancel(answers[1].run_id)
    fifth = user.retry(question, model=SLOW, beside=True)
    assert tuple(one.id for one in user.comparison(fifth.message_id)) == ids([*answers, fifth])
    stop(user, [*answers, fifth])


def test_the_limit_of_running_answers_holds(user: UserClient) -> None:
    elsewhere = user.send(user.create_conversation().id, "hello", model=SLOW)
    _, answers = compare(user, SLOW, SLOW, SLOW)
    with pytest.raises(TooMany) as refused:
        user.retry(answers[0].user_message_id, model=SLOW, beside=True)
    assert refused.value.code == "too-many-running"
    stop(user, [elsewhere, *answers])


def test_stopping_one_leaves_the_others(user: UserClient) -> None:
    conversation_id, answers = compare(user, "stream-150-10", SLOW, "stream-140-10")
    assert user.cancel(answers[1].run_id).state == "cancelled"
    assert user.run(answers[0].run_id).active
    assert user.conversation(conversation_id).active_run_id is not None
    for one in (answers[0], answers[2]):
        assert follow_to_end(user, one.run_id)[-1].type == "run.completed"
    states = [one.run.state for one in user.comparison(answers[0].message_id) if one.run]
    assert states == ["completed", "cancelled", "completed"]
    assert user.conversation(conversation_id).active_run_id is None


def test_one_goes_on_from_the_answer_that_is_chosen(
    user: UserClient, provider: ScriptedProvider
) -> None:
    conversation_id, answers = compare(user, "stream-5-1", "stream-300-10", "stream-6-1")
    follow_to_end(user, answers[2].run_id)
    # While another is still being written.
    user.choose_branch(conversation_id, answers[2].message_id)
    user.cancel(answers[1].run_id)
    assert leaf(user, conversation_id) == answers[2].message_id
    for one in answers[:2]:
        follow_to_end(user, one.run_id)
    sent = user.send(conversation_id, "go on", model="echo")
    follow_to_end(user, sent.run_id)
    assert provider.requests()["recent"][-1]["messages"] == 3
    branch = user.messages(conversation_id).items
    assert [one.id for one in branch] == [
        answers[0].user_message_id,
        answers[2].message_id,
        sent.user_message_id,
        sent.message_id,
    ]
    assert branch[1].compared_with == ids(answers)
    copied = user.messages(user.copy_conversation(conversation_id).id).items
    assert [one.content for one in copied] == [one.content for one in branch]
    assert [one.compared_with for one in copied] == [()] * 4


def test_deleting_the_conversation_ends_them_all(user: UserClient) -> None:
    conversation_id, answers = compare(user, SLOW, SLOW, SLOW)
    followers = [user.follow(one.run_id) for one in answers]
    for follower in followers:
        follower.wait(10)
    user.delete_conversation(conversation_id)
    user.restore_conversation(conversation_id)
    for one, follower in zip(answers, followers, strict=True):
        follower.close()
        assert user.run(one.run_id).state == "cancelled"


def test_several_at_once_get_a_lane_each(user: UserClient) -> None:
    _, (first,) = compare(user, SLOW)
    sent: list[Sent] = []
    refused: list[str] = []
    barrier = threading.Barrier(6)

    def ask() -> None:
        barrier.wait(10)
        try:
            sent.append(user.retry(first.user_message_id, model=SLOW, beside=True))
        except Invalid as problem:
            refused.append(problem.code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(sent), refused) == (3, ["invalid-input"] * 3)
    answers = [first, *sorted(sent, key=lambda one: one.message_id)]
    assert tuple(one.id for one in user.comparison(first.message_id)) == ids(answers)
    stop(user, answers)


def test_the_same_key_gives_the_same_answer_and_beside_is_another_request(
    user: UserClient,
) -> None:
    conversation_id = user.create_conversation().id
    first = user.send(conversation_id, "hello", model=SLOW, idempotency_key="first")
    question = first.user_message_id
    assert user.send(conversation_id, "hello", model=SLOW, idempotency_key="first") == first
    second = user.retry(question, SLOW, idempotency_key="second", beside=True)
    assert user.retry(question, SLOW, idempotency_key="second", beside=True) == second
    assert second.user_message_id == question
    with pytest.raises(Invalid) as refused:
        user.retry(question, SLOW, idempotency_key="second")
    assert refused.value.code == "idempotency-key-reused"
    stop(user, [first, second])


def test_nobody_takes_the_conversation_for_idle_while_an_answer_is_put_beside_another(
    postgres: Postgres,
) -> None:
    with postgres.database() as url:
        migrate(url)
        engine = create_engine(url)
        with engine.begin() as connection:
            for statement in A_RUN:
                connection.execute(text(statement))
        end = select(runs.c.id).where(runs.c.id == "r").with_for_update(nowait=True)
        with engine.connect() as putting, engine.connect() as ending:
            assert free_lane(putting, "c", "q") == 1
            # The other answer cannot end before this one is there.
            with pytest.raises(OperationalError):
                ending.execute(end)
            ending.rollback()
            putting.rollback()
            assert ending.scalar(end) == "r"
        engine.dispose()


def test_in_a_conversation_of_old_the_branch_stays_as_well(
    user: UserClient, service: Service
) -> None:
    conversation_id, (first,) = compare(user, "echo")
    follow_to_end(user, first.run_id)
    # Nobody had chosen a branch there: it ended in the newest message.
    url = service.environment.get("ALCHAT_DATABASE_URL") or f"sqlite:///{service.database}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            update(conversations)
            .where(conversations.c.id == conversation_id)
            .values(active_leaf_id=None)
        )
    engine.dispose()
    second = user.retry(first.user_message_id, model="echo", beside=True)
    follow_to_end(user, second.run_id)
    assert leaf(user, conversation_id) == first.message_id
    assert user.messages(conversation_id).items[-1].compared_with == ids([first, second])


def test_reading_one_does_not_read_those_that_are_still_being_written(user: UserClient) -> None:
    conversation_id, answers = compare(user, "stream-60-20", "stream-2-1")
    follow_to_end(user, answers[1].run_id)
    user.mark_read(answers[1].run_id)
    assert user.run(answers[0].run_id).active
    follow_to_end(user, answers[0].run_id)
    wait_until(lambda: user.conversation(conversation_id).unread)
    user.mark_read(answers[1].run_id)
    assert not user.conversation(conversation_id).unread


def test_a_long_comparison_names_the_newest(user: UserClient) -> None:
    conversation_id, answers = compare(user, "echo")
    for _ in range(9):
        follow_to_end(user, answers[-1].run_id)
        more = user.retry(answers[0].user_message_id, model="echo", beside=True)
        answers.append(more)
    follow_to_end(user, answers[-1].run_id)
    newest = ids(answers)[-8:]
    # It is among them itself, always.
    assert user.messages(conversation_id).items[-1].compared_with == (
        answers[0].message_id,
        *newest[1:],
    )
    assert user.comparison(answers[-1].message_id)[-1].compared_with == newest
    assert tuple(one.id for one in user.comparison(answers[5].message_id)) == newest


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_killed_service_marks_them_all_interrupted(
    engine: str,
    request: pytest.FixtureRequest,
    own_service: Callable[..., Service],
    papita: FakePapita,
    username: str,
) -> None:
    with ExitStack() as stack:
        settings = {}
        if engine == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            settings["ALCHAT_DATABASE_URL"] = stack.enter_context(server.database())
        service = own_service(**settings)
        client = AlChatClient(service.url)
        stack.callback(client.close)
        user = client.as_user(lambda: papita.token_for(username))
        conversation_id, answers = compare(user, SLOW, SLOW, SLOW)
        seen = []
        for one in answers:
            with user.follow(one.run_id) as follower:
                events = []
                while not text_of(events):
                    events += follower.wait(10)
            seen.append(text_of(events))
        service.stop(signal.SIGKILL)
        service.start()
        found = user.comparison(answers[0].message_id)
        assert [one.run.state for one in found if one.run] == ["interrupted"] * 3
        for message, shown in zip(found, seen, strict=True):
            assert message.content.startswith(shown)
        assert user.conversation(conversation_id).active_run_id is None
        assert leaf(user, conversation_id) == answers[0].message_id
        service.stop()
