"""Messages that are sent at the same moment: one commit, and one right outcome for each of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import Service, follow_to_end, text_of
from fake_papita import FakePapita
from sqlalchemy import event, func, select, text

from alchat_core.auth import User
from alchat_core.client import AlChatClient, UserClient
from alchat_core.conversations.service import ConversationService
from alchat_core.credential_manager import Loan
from alchat_core.db.engine import Database
from alchat_core.db.migrate import migrate
from alchat_core.db.tables import messages, runs
from alchat_core.errors import (
    InvalidInput,
    KeyReused,
    NotFound,
    RunActive,
    ShuttingDown,
    TooManyRunning,
)
from alchat_core.ids import new_id
from alchat_core.runs.live import Live, Sent
from alchat_core.runs.rows import Scene
from alchat_core.runs.sending import Apart, Draft, Sending
from alchat_core.secret import Secret
from tests.papita_core.postgres import Postgres

MOST = 3


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        found = f"sqlite:///{tmp_path}/alchat.db"
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            found = stack.enter_context(server.database())
        migrate(found)
        yield found


class Desk:
    """A `Sending` over a database, with conversations to send to."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.talks = ConversationService(self.database, undo_minutes=1)
        self.launched: list[Live] = []
        self.asked: list[Draft] = []
        self.loans: list[asyncio.Task[Loan]] = []
        self.stopping = False
        self.sending = Sending(
            self.database,
            self.judge,
            self.room,
            self.ask,
            self.launched.append,
            lambda: self.stopping,
        )

    def judge(self, scene: Scene, running: int) -> None:
        if scene.active is not None:
            raise RunActive
        if running >= MOST:
            raise TooManyRunning

    def room(self, owner: str) -> int:
        return MOST - sum(live.user.id == owner for live in self.launched)

    def ask(self, draft: Draft) -> asyncio.Task[Loan]:
        self.asked.append(draft)

        async def never() -> Loan:
            await asyncio.sleep(60)
            raise AssertionError

        loan = asyncio.create_task(never())
        self.loans.append(loan)
        return loan

    async def talk(self, owner: str = "ann", *, free: bool = False) -> str:
        talk = (await self.talks.create(owner)).id
        if free:
            self.sending.free(owner, talk)
        return talk

    async def send(self, *drafts: Draft) -> list[Any]:
        outcomes = await asyncio.gather(*map(self.sending.send, drafts), return_exceptions=True)
        return list(outcomes)

    async def count(self, table: Any) -> Any:
        return await self.database.read(lambda c: c.scalar(select(func.count()).select_from(table)))


def draft(conversation: str, owner: str = "ann", **more: Any) -> Draft:
    user = User(owner, owner, "session", Secret("token"), 1e12)
    return Draft(user, conversation, "How do potatoes grow?", new_id("run"), "echo", **more)


@pytest.fixture
def at_desk(url: str) -> Callable[[Callable[[Desk], Any]], None]:
    def run(what: Callable[[Desk], Any]) -> None:
        async def within() -> None:
            desk = Desk(url)
            try:
                await what(desk)
            finally:
                for live in desk.launched:
                    if live.loan is not None:
                        live.loan.cancel()
                await desk.database.close()

        asyncio.run(within())

    return run


At = Callable[[Callable[[Desk], Any]], None]


def test_each_has_its_own_outcome(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        talk, other, foreign = await desk.talk(), await desk.talk(), await desk.talk("ben")
        good, missing, strange, wrong, later, elsewhere = await desk.send(
            draft(talk),
            draft("conv_none"),
            draft(foreign),
            draft(other, parent_id="msg_none"),
            draft(talk),
            draft(foreign, "ben", parameters={"temperature": 0.5}),
        )
        assert isinstance(good, Sent)
        assert isinstance(elsewhere, Sent)
        assert [type(one) for one in (missing, strange, wrong, later)] == [
            NotFound,
            NotFound,
            InvalidInput,
            RunActive,
        ]
        assert {live.id for live in desk.launched} == {good.run_id, elsewhere.run_id}
        # Nobody's key is borrowed for what is refused.
        assert len(desk.asked) == 2
        assert await desk.count(messages) == 4
        rows = await desk.database.read(
            lambda c: {row.id: row for row in c.execute(select(runs)).all()}
        )
        assert rows[good.run_id].parameters is None
        assert rows[elsewhere.run_id].parameters == {"temperature": 0.5}
        assert {row.state for row in rows.values()} == {"queued"}
        seen = await desk.talks.get("ann", talk)
        assert seen.title == "How do potatoes grow?"

    at_desk(play)


def test_they_share_a_commit(at_desk: At, url: str) -> None:
    async def play(desk: Desk) -> None:
        talks = [await desk.talk(f"user{number}") for number in range(20)]
        commits = []
        if desk.database.direct is None:
            engine = desk.database._local
            event.listen(engine, "commit", lambda _: commits.append(1))
        else:
            commit = desk.database.direct.commit

            async def counted(changes: Any) -> None:
                commits.append(1)
                await commit(changes)

            desk.database.direct.commit = counted  # type: ignore[method-assign]
        drafts = [draft(talk, f"user{number}") for number, talk in enumerate(talks)]
        assert all(isinstance(one, Sent) for one in await desk.send(*drafts))
        assert len(commits) == 1

    at_desk(play)


def test_a_users_answers_are_counted_with_those_of_the_same_moment(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        talks = [await desk.talk() for _ in range(MOST + 2)]
        outcomes = await desk.send(*map(draft, talks))
        assert [isinstance(one, Sent) for one in outcomes] == [True] * MOST + [False] * 2
        assert {type(one) for one in outcomes[MOST:]} == {TooManyRunning}

    at_desk(play)


def test_a_key_is_served_once(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        talk, other = await desk.talk(), await desk.talk()
        first, again, mixed_up = await desk.send(
            draft(talk, key="k", digest="d"),
            draft(talk, key="k", digest="d"),
            draft(other, key="k", digest="another"),
        )
        assert isinstance(first, Sent)
        assert again == first
        assert isinstance(mixed_up, KeyReused)
        assert len(desk.launched) == len(desk.asked) == 1

    at_desk(play)


def test_where_nothing_is_written_the_key_is_asked_for_before_anybody_looks(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        asked: list[int] = []
        look = desk.sending._look

        async def looked(drafts: list[Draft]) -> Any:
            asked.append(len(desk.asked))
            return await look(drafts)

        desk.sending._look = looked  # type: ignore[method-assign]
        talk, foreign = await desk.talk(free=True), await desk.talk("ben", free=True)
        outcomes = await desk.send(
            draft(talk),
            draft(foreign),
            draft(await desk.talk(free=True), parent_id="msg_none"),
            draft(hotter := await desk.talk(free=True), parameters={"temperature": 1.5}),
        )
        # Of the first alone an answer was to be expected, whatever else is said.
        assert asked == [1]
        assert [one.conversation_id for one in desk.asked] == [talk, hotter]
        assert [type(one) for one in outcomes] == [Sent, NotFound, InvalidInput, Sent]
        # It is being answered now.
        (again,) = await desk.send(draft(talk))
        assert isinstance(again, RunActive)
        assert asked == [1, 2]
        assert len(desk.asked) == 2
        assert not desk.loans[0].cancelled()

    at_desk(play)


def test_a_key_that_was_asked_for_in_vain_is_not_waited_for(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        talk, other = await desk.talk(free=True), await desk.talk()
        await desk.talks.delete("ann", talk)
        (first,) = await desk.send(draft(other, key="k", digest="d"))
        desk.sending.free("ann", other)
        gone, again = await desk.send(draft(talk), draft(other, key="k", digest="d"))
        assert isinstance(gone, NotFound)
        assert again == first
        await asyncio.sleep(0)
        assert [loan.cancelled() for loan in desk.loans] == [False, True, True]

    at_desk(play)


def test_no_more_keys_are_asked_for_than_a_user_may_have_answers(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        talks = [await desk.talk(free=True) for _ in range(MOST + 2)]
        outcomes = await desk.send(*map(draft, talks))
        assert [isinstance(one, Sent) for one in outcomes] == [True] * MOST + [False] * 2
        assert len(desk.asked) == MOST

    at_desk(play)


def test_a_row_in_the_way_of_one_leaves_all_to_find_out(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        talk, other = await desk.talk(), await desk.talk("ben")
        (first,) = await desk.send(draft(other, "ben"))
        taken = draft(talk)
        taken.run_id = first.run_id
        outcomes = await desk.send(taken, draft(await desk.talk("cat"), "cat"))
        assert all(isinstance(one, Apart) for one in outcomes)
        assert await desk.count(runs) == 1
        assert await desk.count(messages) == 2
        assert len(desk.launched) == 1
        for one in outcomes:
            if one.loan is not None:
                one.loan.cancel()

    at_desk(play)


def test_what_is_stored_is_answered_though_nobody_waits(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        waiting = asyncio.create_task(desk.sending.send(draft(await desk.talk())))
        await asyncio.sleep(0)
        waiting.cancel()
        await desk.sending.settle()
        assert await desk.count(runs) == len(desk.launched) == 1

    at_desk(play)


def test_nothing_begins_while_the_service_stops(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        desk.stopping = True
        (outcome,) = await desk.send(draft(await desk.talk()))
        assert isinstance(outcome, ShuttingDown)
        assert await desk.count(runs) == 0

    at_desk(play)


def test_a_database_that_fails_is_told_to_all(at_desk: At) -> None:
    async def play(desk: Desk) -> None:
        talks = [await desk.talk(f"user{number}") for number in range(3)]
        await desk.database.write(lambda c: c.execute(text("ALTER TABLE runs RENAME TO gone")))
        outcomes = await desk.send(
            *(draft(talk, f"user{number}") for number, talk in enumerate(talks))
        )
        assert not desk.launched
        assert not any(isinstance(one, Sent) for one in outcomes)
        await desk.database.write(lambda c: c.execute(text("ALTER TABLE gone RENAME TO runs")))
        # The next one finds all in order.
        (sent,) = await desk.send(draft(talks[0], "user0"))
        assert isinstance(sent, Sent)

    at_desk(play)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_many_users_at_once_get_their_own_answers(
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
        client = AlChatClient(own_service(**settings).url)
        stack.callback(client.close)

        def user(number: int) -> UserClient:
            return client.as_user(lambda: papita.token_for(f"{username}-{number}"))

        users = [user(number) for number in range(12)]
        talks = [one.create_conversation().id for one in users]
        found: dict[int, str] = {}

        def ask(number: int) -> None:
            sent = users[number].send(talks[number], f"I am {number}", model="echo")
            found[number] = text_of(follow_to_end(users[number], sent.run_id))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {
            number: f"I am {number}" in words for number, words in found.items()
        } == dict.fromkeys(range(12), True)
        # Each on Papita's record, once and for its run.
        assert [papita.loans[f"{username}-{number}"] for number in range(12)] == [1] * 12
