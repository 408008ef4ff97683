"""A branch as a conversation of its own."""

from __future__ import annotations

import pytest
from conftest import follow_to_end

from alchat_core.client import Invalid, UserClient


@pytest.fixture
def conversation(user: UserClient) -> str:
    """With two questions and answers, a file and all that can be set."""
    made = user.create_conversation("Wombats", system_prompt="Be brief.")
    user.update_conversation(made.id, pinned=True, folder="Animals", tags=["tail"])
    file = user.upload("notes.txt", b"wombats dig")
    sent = user.send(made.id, "first question", model="echo", attachments=[file.id])
    follow_to_end(user, sent.run_id)
    follow_to_end(user, user.send(made.id, "second question", model="echo").run_id)
    return made.id


def test_a_copy_has_the_branch_and_goes_its_own_way(user: UserClient, conversation: str) -> None:
    answer = user.messages(conversation).items[1]
    user.rate(answer.id, "up", "good")
    copy = user.copy_conversation(conversation, answer.id, title="Wombats, again")
    assert copy.title == "Wombats, again"
    assert (copy.folder, copy.tags, copy.pinned) == ("Animals", ("tail",), False)
    assert copy.system_prompt == "Be brief."
    question, copied = user.messages(copy.id).items
    assert question.content == "first question"
    assert [file.name for file in question.attachments] == ["notes.txt"]
    assert (copied.content, copied.model) == (answer.content, "echo")
    assert copied.feedback is not None
    assert copied.feedback.comment == "good"
    assert copied.usage is None
    follow_to_end(user, user.send(copy.id, "third question").run_id)
    assert len(user.messages(copy.id).items) == 4
    assert len(user.messages(conversation).items) == 4
    user.delete_conversation(conversation)
    assert user.attachment_content(question.attachments[0].id) == b"wombats dig"
    found = {hit.conversation_id for hit in user.search("first question")}
    assert found == {copy.id}


def test_without_a_message_the_whole_active_branch_is_copied(
    user: UserClient, conversation: str
) -> None:
    copy = user.copy_conversation(conversation)
    assert copy.title == "Wombats"
    said = [message.content for message in user.messages(conversation).items]
    assert [message.content for message in user.messages(copy.id).items] == said


def test_what_is_elsewhere_or_empty_is_not_copied(user: UserClient, conversation: str) -> None:
    empty = user.create_conversation()
    with pytest.raises(Invalid, match="nothing to copy"):
        user.copy_conversation(empty.id)
    with pytest.raises(Invalid, match="messageId"):
        user.copy_conversation(empty.id, user.messages(conversation).items[0].id)
    temporary = user.create_conversation(temporary=True)
    follow_to_end(user, user.send(temporary.id, "hush", model="echo").run_id)
    assert user.copy_conversation(temporary.id).temporary
    assert not user.search("hush").items
