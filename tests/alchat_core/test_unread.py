"""Which conversations have an answer that nobody has looked at yet."""

from __future__ import annotations

from conftest import follow_to_end, wait_until

from alchat_core.client import UserClient


def test_an_answer_is_unread_until_it_was_read(user: UserClient) -> None:
    made = user.create_conversation("Wombats")
    assert not made.unread
    first = user.send(made.id, "first", model="echo")
    follow_to_end(user, first.run_id)
    wait_until(lambda: user.conversation(made.id).unread, 10)
    (listed,) = (one for one in user.conversations() if one.id == made.id)
    assert listed.unread
    user.mark_read(first.run_id)
    assert not user.conversation(made.id).unread
    second = user.send(made.id, "second", model="stream-100-50")
    assert not user.conversation(made.id).unread
    follow_to_end(user, second.run_id)
    wait_until(lambda: user.conversation(made.id).unread, 10)
    # A tab that is late has not read what came after it.
    user.mark_read(first.run_id)
    assert user.conversation(made.id).unread
    user.mark_read(second.run_id)
    user.mark_read(first.run_id)
    assert not user.conversation(made.id).unread


def test_what_was_stopped_is_no_news_and_what_failed_is(user: UserClient) -> None:
    made = user.create_conversation()
    slow = user.send(made.id, "slowly", model="stream-200-50")
    user.cancel(slow.run_id)
    wait_until(lambda: user.conversation(made.id).active_run_id is None, 10)
    assert not user.conversation(made.id).unread
    failed = user.send(made.id, "fail", model="error-401")
    follow_to_end(user, failed.run_id)
    wait_until(lambda: user.conversation(made.id).unread, 10)
