"""System prompts, assistants, feedback, folders and tags, through the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ScriptedProvider, Service, follow_to_end, text_of
from documents import image
from fake_papita import FakePapita
from sqlalchemy import create_engine, text

from alchat_core.attachments.files import Files
from alchat_core.attachments.service import AttachmentService
from alchat_core.auth import User
from alchat_core.client import (
    AlChatClient,
    AlChatProblem,
    Invalid,
    NotFound,
    UserClient,
)
from alchat_core.conversations.assistants import AssistantService
from alchat_core.conversations.feedback import FeedbackService
from alchat_core.conversations.service import ConversationService
from alchat_core.conversations.shelves import ShelfService
from alchat_core.credential_manager import Loan
from alchat_core.db.engine import Database
from alchat_core.db.migrate import migrate
from alchat_core.errors import InvalidInput, RunError, TooManyAssistants
from alchat_core.providers.parameters import effective
from alchat_core.runs.log import DatabaseLog
from alchat_core.runs.service import RunService
from alchat_core.runs.titles import name
from alchat_core.secret import Secret
from alchat_core.settings import Settings
from tests.papita_core.postgres import Postgres

Other = Callable[[str], UserClient]


@pytest.fixture
def other(client: AlChatClient, papita: FakePapita, username: str) -> Other:
    """Another user, who belongs to this test alone."""
    return lambda name: client.as_user(lambda: papita.token_for(f"{name}-{username}"))


def say(user: UserClient, conversation_id: str, content: str, **more: Any) -> str:
    """The answer; `echo-all` says what the provider got."""
    sent = user.send(conversation_id, content, **{"model": "echo-all", **more})
    return text_of(follow_to_end(user, sent.run_id))


# --- system prompts ---


def test_the_system_prompt_is_the_first_message_of_every_request(user: UserClient) -> None:
    conversation = user.create_conversation(system_prompt="Speak like a pirate.")
    assert conversation.system_prompt == "Speak like a pirate."
    assert say(user, conversation.id, "hello") == "system: Speak like a pirate.\nuser: hello"
    changed = user.update_conversation(conversation.id, system_prompt="Be brief.")
    assert changed.system_prompt == "Be brief."
    asked = say(user, conversation.id, "again")
    assert asked.startswith("system: Be brief.\nuser: hello\nassistant: system:")
    assert asked.endswith("\nuser: again")
    question = user.messages(conversation.id).items[0]
    retried = follow_to_end(user, user.retry(question.id, model="echo-all").run_id)
    assert text_of(retried) == "system: Be brief.\nuser: hello"
    assert user.update_conversation(conversation.id, title="x").system_prompt == "Be brief."
    assert user.update_conversation(conversation.id, system_prompt=None).system_prompt is None
    assert user.conversation(conversation.id).system_prompt is None
    # The retry began a branch of its own.
    assert say(user, conversation.id, "more", first=True) == "user: more"


def test_the_system_prompt_is_sent_when_an_answer_is_continued(
    user: UserClient, provider: ScriptedProvider
) -> None:
    conversation = user.create_conversation(system_prompt="Be brief.")
    sent = user.send(conversation.id, "hello", model="error-midstream")
    follow_to_end(user, sent.run_id)
    follow_to_end(user, user.go_on(sent.message_id, model="echo").run_id)
    assert provider.requests()["recent"][-1]["messages"] == 4


@pytest.mark.parametrize(
    "prompt", ["", "  \n", "x\x00", "x" * 32_001], ids=["empty", "blank", "null", "long"]
)
def test_a_prompt_that_cannot_be_used_is_refused(user: UserClient, prompt: str) -> None:
    conversation = user.create_conversation()
    attempts: list[Callable[[], object]] = [
        lambda: user.create_conversation(system_prompt=prompt),
        lambda: user.update_conversation(conversation.id, system_prompt=prompt),
        lambda: user.create_assistant("helper", prompt),
    ]
    for attempt in attempts:
        with pytest.raises(Invalid):
            attempt()
    assert not user.assistants().items


# --- parameters of a conversation ---


@pytest.mark.parametrize(
    ("model", "defaults", "given", "found"),
    [
        ("m", None, None, None),
        ("m", {"temperature": 1}, None, {"temperature": 1}),
        ("m", {"temperature": 1, "seed": 2}, {"temperature": 0}, {"temperature": 0, "seed": 2}),
        # What the model is known to refuse is left out, unless it was asked for.
        ("o3", {"temperature": 1, "seed": 2}, None, {"seed": 2}),
        ("o3", {"temperature": 1}, {"temperature": 0}, {"temperature": 0}),
        ("gpt-4o", {"reasoningEffort": "low"}, None, None),
        (None, {"temperature": 1}, {"seed": 2}, {"temperature": 1, "seed": 2}),
    ],
)
def test_which_parameters_are_sent(
    model: str | None,
    defaults: dict[str, Any] | None,
    given: dict[str, Any] | None,
    found: dict[str, Any] | None,
) -> None:
    assert effective(model, defaults, given) == found


def test_parameters_of_a_conversation_are_those_of_its_messages(
    user: UserClient, provider: ScriptedProvider
) -> None:
    conversation = user.create_conversation(parameters={"temperature": 0.5, "seed": 7})
    assert conversation.parameters == {"temperature": 0.5, "seed": 7}
    sent = user.send(conversation.id, "hello", model="echo", parameters={"seed": 8})
    follow_to_end(user, sent.run_id)
    expected = {"temperature": 0.5, "seed": 8}
    assert user.run(sent.run_id).parameters == expected
    assert provider.requests()["recent"][-1]["parameters"] == expected
    assert user.update_conversation(conversation.id, parameters=None).parameters is None
    say(user, conversation.id, "again")
    assert provider.requests()["recent"][-1]["parameters"] == {}
    with pytest.raises(Invalid):
        user.update_conversation(conversation.id, parameters={"temperature": 3})


# --- assistants ---


def test_a_conversation_takes_over_what_its_assistant_is_at_that_moment(
    user: UserClient, provider: ScriptedProvider
) -> None:
    assistant = user.create_assistant(
        "Pirate", "Speak like a pirate.", model="echo-all", parameters={"topP": 0.5}
    )
    conversation = user.create_conversation(assistant_id=assistant.id)
    assert conversation.assistant_id == assistant.id
    user.update_assistant(assistant.id, prompt="Speak like a parrot.", parameters=None)
    assert say(user, conversation.id, "hi", model=None).startswith("system: Speak like a pirate.")
    assert provider.requests()["recent"][-1]["parameters"] == {"top_p": 0.5}
    given = user.create_conversation(assistant_id=assistant.id, system_prompt="Be brief.")
    assert (given.system_prompt, given.model) == ("Be brief.", "echo-all")
    assert given.parameters is None
    user.delete_assistant(assistant.id)
    assert user.conversation(conversation.id).assistant_id == assistant.id
    with pytest.raises(NotFound):
        user.create_conversation(assistant_id=assistant.id)


def test_a_shared_assistant_is_read_by_all_and_changed_by_its_owner(
    user: UserClient, other: Other, username: str
) -> None:
    mine = user.create_assistant("Helper", "Help.", shared=True)
    stranger = other("stranger")
    seen = stranger.assistant(mine.id)
    assert (seen.own, seen.owner, seen.prompt) == (False, username, "Help.")
    assert mine.own
    assert mine.id in [one.id for one in stranger.assistants(limit=200)]
    attempts: list[Callable[[], object]] = [
        lambda: stranger.update_assistant(mine.id, name="mine now"),
        lambda: stranger.delete_assistant(mine.id),
    ]
    for attempt in attempts:
        with pytest.raises(AlChatProblem) as refused:
            attempt()
        assert (refused.value.status, refused.value.code) == (403, "not-yours")
    begun = stranger.create_conversation(assistant_id=mine.id)
    assert begun.system_prompt == "Help."
    user.update_assistant(mine.id, shared=False)
    with pytest.raises(NotFound):
        stranger.assistant(mine.id)
    with pytest.raises(NotFound):
        stranger.create_conversation(assistant_id=mine.id)
    assert stranger.conversation(begun.id).system_prompt == "Help."


def test_a_model_reads_the_files_of_a_shared_assistant_and_its_users_do_not(
    user: UserClient, other: Other
) -> None:
    file = user.upload("log.txt", b"The treasure lies under the walnut tree.")
    mine = user.create_assistant("Guide", "Guide me.", shared=True, files=[file.id])
    (named,) = mine.files
    assert (named.id, named.name, named.media_type) == (file.id, "log.txt", "text/plain")
    assert user.assistants().items[0].files == (named,)
    guest = other("guest")
    assert guest.assistant(mine.id).files == (replace(named, id=None),)
    for call in (guest.attachment, guest.attachment_content, guest.delete_attachment):
        with pytest.raises(NotFound):
            call(file.id)
    begun = guest.create_conversation(assistant_id=mine.id)
    for question in ("Where is it?", "And now?"):
        asked = say(guest, begun.id, question)
        assert asked.startswith("system: Guide me.\n\n")
        assert asked.partition("user: ")[0].count("under the walnut tree") == 1
    assert not any(one.attachments for one in guest.messages(begun.id))
    # What is taken back, or deleted, is read by no model any more.
    user.update_assistant(mine.id, shared=False)
    assert say(guest, begun.id, "Hm?", first=True) == "system: Guide me.\nuser: Hm?"
    user.update_assistant(mine.id, shared=True, name="Guide")
    assert "walnut" in say(guest, begun.id, "Hm?", first=True)
    user.delete_attachment(file.id)
    assert guest.assistant(mine.id).files == ()
    assert say(guest, begun.id, "Hm?", first=True) == "system: Guide me.\nuser: Hm?"
    user.delete_assistant(mine.id)


def test_excerpts_of_an_assistants_files_name_them_and_give_others_no_id(
    user: UserClient, other: Other
) -> None:
    file = user.upload("long.txt", b"The harbour master writes of tides and ropes.\n" * 2300)
    mine = user.create_assistant("Guide", "Guide me.", shared=True, files=[file.id])
    for who, seen in ((user, file.id), (other("guest"), None)):
        begun = who.create_conversation(assistant_id=mine.id)
        assert len(say(who, begun.id, "What of the tides?")) < 20_000
        sources = who.messages(begun.id).items[1].sources
        assert {(one.name, one.attachment_id) for one in sources} == {("long.txt", seen)}
    user.delete_assistant(mine.id)
    with pytest.raises(NotFound):
        user.attachment(file.id)


def test_files_of_an_assistant_are_ones_own_and_have_text(user: UserClient, other: Other) -> None:
    file, foreign = user.upload("a.txt", b"x"), other("owner").upload("b.txt", b"y")
    picture = user.upload("a.png", image())
    mine = user.create_assistant("Guide", "Guide me.", files=[file.id])
    for files in ([foreign.id], [picture.id], [file.id] * 2, ["att_none"], ["x"] * 21):
        with pytest.raises(Invalid):
            user.create_assistant("Other", "p", files=files)
        with pytest.raises(Invalid):
            user.update_assistant(mine.id, files=files)
    assert [one.id for one in user.assistants() if one.own] == [mine.id]
    assert [one.id for one in user.update_assistant(mine.id, name="x").files] == [file.id]
    # A file that nothing has any more is deleted.
    assert user.update_assistant(mine.id, files=[]).files == ()
    with pytest.raises(NotFound):
        user.attachment(file.id)
    user.attachment(picture.id)


def test_a_conversation_begins_with_the_tools_of_its_assistant(
    user: UserClient, other: Other
) -> None:
    url = "https://tools.example/mcp"
    ours = user.create_tool_server("ours", url, shared=True)
    foreign = other("owner").create_tool_server("theirs", url)
    mine = user.create_assistant("Clerk", "Look it up.", shared=True, tools=[ours.id])
    assert mine.tools == (ours.id,)
    guest = other("guest")
    assert guest.assistant(mine.id).tools == (ours.id,)
    for reader in (user, guest):
        begun = reader.create_conversation(assistant_id=mine.id)
        assert reader.conversation(begun.id).tools == (ours.id,)
    # What is given beside it goes before, and what began stays as it is.
    own = user.create_tool_server("own", url)
    chosen = user.create_conversation(assistant_id=mine.id, tools=[own.id])
    assert chosen.tools == (own.id,)
    assert user.update_assistant(mine.id, tools=[]).tools == ()
    assert user.create_conversation(assistant_id=mine.id).tools == ()
    assert guest.conversation(begun.id).tools == (ours.id,)
    for tools in ([foreign.id], ["srv_none"], [ours.id] * 2):
        with pytest.raises(Invalid):
            user.create_assistant("Other", "p", tools=tools)
        with pytest.raises(Invalid):
            user.update_assistant(mine.id, tools=tools)


def test_assistants_come_newest_first_and_page_by_page(other: Other) -> None:
    mine = other("lister")
    made = [mine.create_assistant(f"prompt {number}", "x", kind="prompt") for number in range(3)]
    mine.create_assistant("an assistant", "x")
    first = mine.assistants("prompt", limit=2)
    assert [one.id for one in first if one.own] == [made[2].id, made[1].id]
    rest = mine.assistants("prompt", cursor=first.next_cursor, limit=200)
    assert [one.id for one in rest if one.own] == [made[0].id]
    assert rest.next_cursor is None
    changed = mine.update_assistant(made[0].id, model="echo", kind="assistant")
    assert (changed.model, changed.kind, changed.name) == ("echo", "assistant", "prompt 0")
    assert mine.update_assistant(made[0].id, model=None).model is None


# --- feedback ---


def test_feedback_is_kept_with_the_answer(user: UserClient, service: Service) -> None:
    conversation = user.create_conversation()
    say(user, conversation.id, "hello")
    question, answer = user.messages(conversation.id).items
    assert answer.feedback is None
    assert user.rate(answer.id, "down", " Too short. ").comment == "Too short."
    user.rate(answer.id, "up")
    question, answer = user.messages(conversation.id).items
    assert answer.feedback is not None
    assert (answer.feedback.rating, answer.feedback.comment) == ("up", None)
    assert question.feedback is None
    with pytest.raises(Invalid):
        user.rate(question.id, "up")
    with pytest.raises(Invalid):
        user.rate(answer.id, "sideways")  # type: ignore[arg-type]
    user.unrate(answer.id)
    user.unrate(answer.id)
    assert user.messages(conversation.id).items[1].feedback is None


def test_no_feedback_outlives_its_conversation(user: UserClient, service: Service) -> None:
    temporary = user.create_conversation(temporary=True)
    say(user, temporary.id, "hello")
    answer = user.messages(temporary.id).items[1]
    user.rate(answer.id, "up", "fine")
    user.delete_conversation(temporary.id)
    engine = create_engine(f"sqlite:///{service.database}")
    with engine.connect() as connection:
        found = connection.scalar(
            text("SELECT count(*) FROM feedback WHERE message_id = :id"), {"id": answer.id}
        )
    engine.dispose()
    assert found == 0
    with pytest.raises(NotFound):
        user.rate(answer.id, "down")


# --- folders, tags, branches, restoring ---


def test_folders_and_tags_in_use_are_counted(user: UserClient) -> None:
    assert user.folders() == user.tags() == ()
    made = [user.create_conversation(f"number {number}") for number in range(4)]
    for number, (folder, tags) in enumerate(
        [("b", ["x", "y"]), ("A", ["x"]), ("b", []), ("gone", ["gone"])]
    ):
        user.update_conversation(made[number].id, folder=folder, tags=tags)
    user.update_conversation(made[3].id, archived=True)
    assert [(one.name, one.conversations) for one in user.folders()] == [("A", 1), ("b", 2)]
    assert [(one.name, one.conversations) for one in user.tags()] == [("x", 2), ("y", 1)]
    assert [one.id for one in user.conversations(folder="b")] == [made[2].id, made[0].id]
    assert [one.id for one in user.conversations(tag="y")] == [made[0].id]
    user.update_conversation(made[1].id, folder=None)
    user.delete_conversation(made[0].id)
    assert [(one.name, one.conversations) for one in user.folders()] == [("b", 1)]
    assert user.restore_conversation(made[0].id).tags == ("x", "y")
    assert [(one.name, one.conversations) for one in user.tags()] == [("x", 2), ("y", 1)]


def test_the_client_walks_branches_and_searches(user: UserClient) -> None:
    conversation = user.create_conversation()
    say(user, conversation.id, "turnips", model="echo")
    say(user, conversation.id, "parsnips", model="echo", first=True)
    question = user.messages(conversation.id).items[0]
    assert question.content == "parsnips"
    assert question.siblings is not None
    assert (question.siblings.count, question.siblings.index) == (2, 1)
    older = question.siblings.ids[0]
    chosen = user.choose_branch(conversation.id, older)
    items = user.messages(conversation.id).items
    assert [item.content for item in items] == ["turnips", "turnips"]
    assert chosen.active_message_id == items[-1].id
    hit = user.search("parsnips", role="user").items[0]
    assert (hit.conversation_id, hit.message_id) == (conversation.id, question.id)
    assert [part.text for part in hit.snippet if part.hit] == ["parsnips"]


# --- on both engines ---


class NoKey:
    """Nobody lends anything; what is asked for is stored all the same."""

    async def borrow(self, user: User, run_id: str | None = None) -> Loan:
        raise RunError("credential-missing")


ANA = User("ana-id", "ana", "ground", Secret("t"), 0.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            found = stack.enter_context(server.database())
        else:
            found = f"sqlite:///{tmp_path}/alchat.db"
        migrate(found)
        yield found


async def _assistants(database: Database) -> None:
    service = AssistantService(database, limit=1)
    values: dict[str, Any] = {
        "kind": "prompt",
        "name": "n",
        "prompt": "p",
        "model": None,
        "parameters": {"seed": 1},
        "shared": False,
    }
    kept = await service.create("ana-id", "ana", values)
    shared = await service.create("bob-id", "bob", {**values, "shared": True})
    with pytest.raises(TooManyAssistants):
        await service.create("ana-id", "ana", values)
    assert [one.id for one in (await service.list("ana-id")).items] == [shared.id, kept.id]
    assert [one.id for one in (await service.list("bob-id")).items] == [shared.id]
    changed = await service.change("ana-id", "anna", kept.id, {"parameters": None})
    assert (changed.parameters, changed.owner_name) == (None, "anna")
    await service.delete("ana-id", kept.id)
    await service.create("ana-id", "ana", values)


async def _conversation(database: Database) -> None:
    log = DatabaseLog(database, interval=0.0)
    log.start()
    service = ConversationService(database)
    files = AttachmentService(Settings(), database, Files(Path("nowhere")))
    runs = RunService(Settings(), database, log, NoKey(), None, files)  # type: ignore[arg-type]
    made = await service.create(ANA.id, system_prompt="p", parameters={"temperature": 1})
    await service.change(ANA.id, made.id, {"folder": "f", "tags": ["t"]})
    sent = await runs.send(ANA, made.id, "first words", model="o3", parameters={"seed": 1})
    live = runs._live[sent.run_id]
    assert live.task is not None
    await live.task
    assert (live.system_prompt, live.wants_title) == ("p", True)
    assert (await runs.get(ANA.id, sent.run_id)).parameters == {"seed": 1}

    feedback = FeedbackService(database)
    for rating in ("up", "down"):
        await feedback.put(ANA.id, sent.message_id, rating, None)
    answer = (await service.messages(ANA.id, made.id)).items[1]
    assert answer.feedback is not None
    assert answer.feedback["rating"] == "down"
    with pytest.raises(InvalidInput):
        await feedback.put(ANA.id, live.user_message_id, "up", None)

    shelves = ShelfService(database)
    assert [one.as_json() for one in await shelves.folders(ANA.id)] == [
        {"name": "f", "conversations": 1}
    ]
    assert [one.name for one in await shelves.tags(ANA.id)] == ["t"]
    assert await shelves.tags("bob-id") == []

    assert (await service.get(ANA.id, made.id)).title == "first words"
    for who, named in (("bob-id", False), (ANA.id, True), (ANA.id, False)):
        assert named == await database.write(
            lambda connection, who=who: name(connection, who, made.id, "By the model")
        )
    again = await runs.send(ANA, made.id, "more", model="echo")
    assert not runs._live[again.run_id].wants_title
    assert (await service.get(ANA.id, made.id)).title == "By the model"
    await runs.stop(1.0)
    await log.stop()


@pytest.mark.parametrize("scene", [_assistants, _conversation])
def test_on_both_engines(url: str, scene: Callable[[Database], Awaitable[None]]) -> None:
    async def play() -> None:
        database = Database(url)
        try:
            await scene(database)
        finally:
            await database.close()

    asyncio.run(play())
