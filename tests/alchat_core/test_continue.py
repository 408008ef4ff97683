"""Going on with an answer that was broken off."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import requests
from conftest import ScriptedProvider, Service, ask, follow_to_end, text_of, wait_until
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, Conflict, Event, Invalid, NotFound, Sent, UserClient
from demo.provider.scripts import script_for
from tests.papita_core.postgres import Postgres

WHOLE = script_for("stream-3000-3").text


def begin(user: UserClient, model: str, content: str = "hello") -> tuple[str, Sent, list[Event]]:
    """A conversation with an answer that has begun, and what was seen of it."""
    conversation = user.create_conversation()
    sent = user.send(conversation.id, content, model=model)
    with user.follow(sent.run_id) as follower:
        events = follower.wait(10)
        while not text_of(events):
            events += follower.wait(10)
    return conversation.id, sent, events


def test_a_stopped_answer_goes_on_in_the_same_message(
    user: UserClient, provider: ScriptedProvider
) -> None:
    conversation_id, sent, _ = begin(user, "stream-300-5")
    user.cancel(sent.run_id)
    kept = user.messages(conversation_id).items[-1].content
    whole = script_for("stream-300-5").text
    assert kept
    assert whole.startswith(kept)

    again = user.go_on(sent.message_id)
    assert again.message_id == sent.message_id
    assert again.run_id != sent.run_id
    events = follow_to_end(user, again.run_id)
    assert (events[0].type, events[-1].type) == ("run.started", "run.completed")
    assert events[0].data == {"model": "stream-300-5"}
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert text_of(events) == whole.removeprefix(kept)
    answer = user.messages(conversation_id).items[-1]
    assert answer.content == whole
    assert answer.run is not None
    assert (answer.run.id, answer.run.state) == (again.run_id, "completed")
    # The question, what was kept, and the request to go on.
    assert provider.requests()["recent"][-1]["messages"] == 3
    # The first run stays as it was.
    assert user.run(sent.run_id).state == "cancelled"
    assert len(user.messages(conversation_id).items) == 2


def test_what_is_kept_shows_while_the_rest_is_written_and_after_another_stop(
    user: UserClient,
) -> None:
    conversation_id, sent, _ = begin(user, "stream-3000-3")
    user.cancel(sent.run_id)
    kept = user.messages(conversation_id).items[-1].content
    for _ in range(2):
        again = user.go_on(sent.message_id)
        with user.follow(again.run_id) as follower:
            events = follower.wait(10)
            while not text_of(events):
                events += follower.wait(10)
            assert user.messages(conversation_id).items[-1].content == kept
            user.cancel(again.run_id)
            while not follower.finished:
                events += follower.wait(10)
        kept += text_of(events)
        assert user.messages(conversation_id).items[-1].content == kept
        assert WHOLE.startswith(kept)


def test_an_answer_that_failed_with_text_goes_on(user: UserClient) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="cut-5")
    follow_to_end(user, sent.run_id)
    failed = user.messages(conversation.id).items[-1]
    assert failed.error is not None
    again = user.go_on(sent.message_id, model="stream-20-1")
    assert follow_to_end(user, again.run_id)[-1].type == "run.completed"
    answer = user.messages(conversation.id).items[-1]
    assert (answer.error, answer.model) == (None, "stream-20-1")
    assert answer.content.startswith(failed.content)
    assert len(answer.content) > len(failed.content)


def test_a_continuation_that_fails_keeps_all_and_may_be_tried_again(
    user: UserClient, papita: FakePapita
) -> None:
    conversation_id, sent, _ = begin(user, "stream-300-5")
    user.cancel(sent.run_id)
    kept = user.messages(conversation_id).items[-1].content
    papita.behaviour = "vault-sealed"
    events = follow_to_end(user, user.go_on(sent.message_id).run_id)
    assert [event.type for event in events] == ["run.failed"]
    answer = user.messages(conversation_id).items[-1]
    assert (answer.content, answer.model) == (kept, "stream-300-5")
    assert answer.error is not None
    assert answer.error.code == "vault-sealed"
    papita.behaviour = ""
    follow_to_end(user, user.go_on(sent.message_id).run_id)
    assert user.messages(conversation_id).items[-1].content == script_for("stream-300-5").text


def test_a_killed_service_goes_on_where_it_stopped_twice(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service()
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("lazarus"))
    conversation_id, sent, events = begin(user, "stream-3000-3")
    seen = text_of(events)
    for _ in range(2):
        service.stop(signal.SIGKILL)
        service.start()
        answer = user.messages(conversation_id).items[-1]
        assert answer.run is not None
        assert answer.run.state == "interrupted"
        assert answer.content.startswith(seen)
        assert WHOLE.startswith(answer.content)
        again = user.go_on(sent.message_id)
        with user.follow(again.run_id) as follower:
            events = follower.wait(10)
            while not text_of(events):
                events += follower.wait(10)
        seen = answer.content + text_of(events)
    user.cancel(again.run_id)
    client.close()


@pytest.mark.parametrize("model", ["echo", "error-500", "no-such-model"])
def test_nothing_to_continue(user: UserClient, model: str) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model=model)
    follow_to_end(user, sent.run_id)
    with pytest.raises(Conflict) as refused:
        user.go_on(sent.message_id)
    assert refused.value.code == "nothing-to-continue"
    assert len(user.messages(conversation.id).items) == 2


def test_a_completed_continuation_is_not_continued(user: UserClient) -> None:
    _, sent, _ = begin(user, "stream-300-3")
    user.cancel(sent.run_id)
    follow_to_end(user, user.go_on(sent.message_id).run_id)
    with pytest.raises(Conflict) as refused:
        user.go_on(sent.message_id)
    assert refused.value.code == "nothing-to-continue"


def test_the_same_key_continues_once(user: UserClient) -> None:
    _, sent, _ = begin(user, "stream-2000-3")
    user.cancel(sent.run_id)
    first = user.go_on(sent.message_id, idempotency_key="go-1")
    assert user.go_on(sent.message_id, idempotency_key="go-1") == first
    with pytest.raises(Invalid) as reused:
        user.go_on(sent.message_id, model="echo", idempotency_key="go-1")
    assert reused.value.code == "idempotency-key-reused"
    with pytest.raises(Conflict) as refused:
        user.go_on(sent.message_id)
    assert refused.value.code == "run-active"
    user.cancel(first.run_id)


def test_only_an_answer_of_ones_own(
    user: UserClient, client: AlChatClient, papita: FakePapita, service: Service, username: str
) -> None:
    conversation_id, sent, _ = begin(user, "stream-2000-3")
    user.cancel(sent.run_id)
    with pytest.raises(Invalid):
        user.go_on(user.messages(conversation_id).items[0].id)
    other = client.as_user(lambda: papita.token_for("somebody-else"))
    for message_id in (sent.message_id, "msg_none"):
        with pytest.raises(NotFound):
            other.go_on(message_id)
    answer = requests.post(
        f"{service.url}/api/messages/{sent.message_id}/continue",
        json={"text": "x"},
        headers={"Authorization": f"Bearer {papita.token_for(username)}"},
        timeout=5,
    )
    assert answer.status_code == 422


def test_a_break_in_a_continuation_is_mended(user: UserClient, provider: ScriptedProvider) -> None:
    conversation_id, sent, _ = begin(user, "stream-400-5")
    user.cancel(sent.run_id)
    kept = user.messages(conversation_id).items[-1].content
    again = user.go_on(sent.message_id)
    with user.follow(again.run_id) as follower:
        events = follower.wait(10)
        while not text_of(events):
            events += follower.wait(10)
        provider.behave(down=True)
        provider.behave(down=False)
        while not follower.finished:
            events += follower.wait(10)
    assert events[-1].type == "run.completed"
    (seam,) = [event for event in events if event.type == "run.seam"]
    assert seam.data["keptCharacters"] > len(kept)
    assert kept + text_of(events) == script_for("stream-400-5").text
    assert user.messages(conversation_id).items[-1].content == kept + text_of(events)
    assert provider.requests()["recent"][-1]["messages"] == 3


def test_the_next_message_reads_the_whole_answer(
    user: UserClient, provider: ScriptedProvider
) -> None:
    conversation_id, sent, _ = begin(user, "stream-300-3")
    user.cancel(sent.run_id)
    follow_to_end(user, user.go_on(sent.message_id).run_id)
    follow_to_end(user, user.send(conversation_id, "more", model="echo").run_id)
    assert provider.requests()["recent"][-1]["messages"] == 3
    wait_until(lambda: len(user.messages(conversation_id).items) == 4)
    assert ask(user, "echo")[-1].type == "run.completed"


def test_continuing_with_thoughts_and_parameters_on_postgresql(
    own_service: Callable[..., Service], papita: FakePapita, postgres: Postgres
) -> None:
    with postgres.database() as url:
        service = own_service(ALCHAT_DATABASE_URL=url)
        client = AlChatClient(service.url)
        user = client.as_user(lambda: papita.token_for("elephant"))
        conversation_id, sent, _ = begin(user, "stream-3000-3")
        service.stop(signal.SIGKILL)
        service.start()
        kept = user.messages(conversation_id).items[-1].content
        assert kept
        assert WHOLE.startswith(kept)
        thinking = user.go_on(sent.message_id, model="thinking", parameters={"maxTokens": 4})
        events = follow_to_end(user, thinking.run_id)
        assert events[-1].type == "run.completed"
        assert text_of(events)
        answer = user.messages(conversation_id).items[-1]
        assert answer.content == kept + text_of(events)
        assert answer.reasoning == "".join(script_for("thinking").thoughts)
        assert user.run(thinking.run_id).parameters == {"maxTokens": 4}
        # A run that fails before its key is lent keeps what is known of the answer.
        retried = follow_to_end(
            user, user.send(conversation_id, "again", model="flaky-1-503").run_id
        )
        assert [event.type for event in retried][1] == "run.retrying"
        papita.behaviour = "vault-sealed"
        sealed = user.send(conversation_id, "more", model="echo")
        assert follow_to_end(user, sealed.run_id)[-1].data["code"] == "vault-sealed"
        client.close()
        service.stop()
