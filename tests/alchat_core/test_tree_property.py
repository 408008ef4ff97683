"""Any sequence of messages, edits, further answers, choices and deletions agrees with a model."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alchat_core.attachments.files import Files
from alchat_core.attachments.service import AttachmentService
from alchat_core.auth import User
from alchat_core.conversations.search import Filters
from alchat_core.conversations.service import ConversationService
from alchat_core.db.engine import Database
from alchat_core.db.migrate import migrate
from alchat_core.errors import NotFound, RunError
from alchat_core.runs.log import DatabaseLog
from alchat_core.runs.service import RunService
from alchat_core.secret import Secret
from alchat_core.settings import Settings

WORDS = ("potato", "carrot", "Größe", "東京都")
USER = User("ann", "ann", "session", Secret("token"), 2.0**40)

_step = st.tuples(
    st.sampled_from(
        [
            *("new", "send", "send", "edit", "edit", "again", "beside", "beside"),
            *("choose", "choose", "delete", "restore"),
        ]
    ),
    st.integers(0, 999),
    st.integers(0, 999),
    st.sampled_from(WORDS),
)


class NoKey:
    """Each answer ends at once, without a word."""

    async def borrow(self, *_: Any) -> Any:
        raise RunError("credential-missing")


@dataclass
class Node:
    id: str
    parent: str | None
    role: str
    content: str
    beside: str | None = None


@dataclass
class Chat:
    """What the model knows of one conversation: messages in order of age, and the active leaf."""

    id: str
    nodes: dict[str, Node] = field(default_factory=dict)
    leaf: str | None = None
    deleted: bool = False

    def branch(self) -> list[Node]:
        found: list[Node] = []
        at = self.leaf
        while at is not None:
            found.insert(0, self.nodes[at])
            at = self.nodes[at].parent
        return found

    def siblings(self, node: Node) -> list[str]:
        return [one.id for one in self.nodes.values() if one.parent == node.parent]

    def compared(self, node: Node) -> tuple[str, ...]:
        first = node.beside or node.id
        found = [one for one in self.siblings(node) if first in (one, self.nodes[one].beside)]
        if len(found) == 1:
            return ()
        newest = found[-8:]
        return tuple(newest if node.id in newest else [node.id, *newest[1:]])

    def newest_below(self, message_id: str) -> str:
        below = {message_id}
        for node in self.nodes.values():
            if node.parent in below:
                below.add(node.id)
        return max(below)

    def title(self) -> str | None:
        return next(iter(self.nodes.values())).content if self.nodes else None


class World:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.log = DatabaseLog(database, interval=0.0)
        self.log.start()
        self.service = ConversationService(database, undo_minutes=1)
        files = AttachmentService(Settings(), database, Files(Path("nowhere")))
        self.runs = RunService(Settings(), database, self.log, NoKey(), None, files)  # type: ignore[arg-type]
        self.chats: list[Chat] = []

    def add(self, chat: Chat, *nodes: Node) -> None:
        for node in nodes:
            chat.nodes[node.id] = node
        chat.leaf = nodes[-1].id

    async def sent(self, chat: Chat, content: str, **where: Any) -> None:
        parent = None if where.get("first") else where.get("parent_id", chat.leaf)
        sent = await self.runs.send(USER, chat.id, content, **where)
        run = await self.ended(sent.run_id)
        self.add(
            chat,
            Node(run.user_message_id, parent, "user", content),
            Node(sent.message_id, run.user_message_id, "assistant", ""),
        )

    async def ended(self, run_id: str) -> Any:
        live = self.runs._live.get(run_id)
        if live is not None and live.task is not None:
            await live.task
        return await self.runs.get(USER.id, run_id)

    async def do(self, step: tuple[str, int, int, str]) -> None:
        what, which, where, word = step
        if what == "new" or not self.chats:
            self.chats.append(Chat((await self.service.create(USER.id)).id))
            return
        chat = self.chats[which % len(self.chats)]
        if chat.deleted and what != "restore":
            with pytest.raises(NotFound):
                await self.runs.send(USER, chat.id, word)
            return
        nodes = list(chat.nodes.values())
        questions = [node for node in nodes if node.role == "user"]
        if what == "delete":
            await self.runs.delete_conversation(USER.id, chat.id)
            chat.deleted = True
        elif what == "restore":
            await self.service.restore(USER.id, chat.id)
            chat.deleted = False
        elif what == "send" or not nodes:
            await self.sent(chat, word)
        elif what == "edit":
            parent = questions[where % len(questions)].parent
            await self.sent(chat, word, **({"parent_id": parent} if parent else {"first": True}))
        elif what == "again":
            question = questions[where % len(questions)]
            sent = await self.runs.retry(USER, question.id)
            await self.ended(sent.run_id)
            self.add(chat, Node(sent.message_id, question.id, "assistant", ""))
        elif what == "beside":
            question = questions[where % len(questions)]
            sent = await self.runs.retry(USER, question.id, beside=True)
            await self.ended(sent.run_id)
            leaf = chat.nodes[chat.leaf or ""]
            self.add(chat, Node(sent.message_id, question.id, "assistant", ""))
            if leaf.parent == question.id:
                chat.nodes[sent.message_id].beside = leaf.beside or leaf.id
                chat.leaf = leaf.id
        elif what == "choose":
            message = nodes[where % len(nodes)]
            changes = {"active_message_id": message.id}
            found = await self.service.change(USER.id, chat.id, changes)
            chat.leaf = chat.newest_below(message.id)
            assert found.active_leaf_id == chat.leaf

    async def agrees(self) -> None:
        there = [chat for chat in self.chats if not chat.deleted]
        listed = await self.service.list(USER.id, limit=200)
        assert {one.id for one in listed.items} == {chat.id for chat in there}
        for chat in there:
            page = await self.service.messages(USER.id, chat.id, limit=500)
            branch = chat.branch()
            assert [(m.id, m.parent_id, m.role, m.content) for m in page.items] == [
                (node.id, node.parent, node.role, node.content) for node in branch
            ]
            for message, node in zip(page.items, branch, strict=True):
                ids = chat.siblings(node)
                assert message.siblings is not None
                assert message.siblings.ids == tuple(ids)
                assert message.siblings.count == len(ids)
                assert message.siblings.index == ids.index(node.id)
                assert message.compared_with == chat.compared(node)
                compared = await self.service.comparison(USER.id, node.id)
                assert tuple(one.id for one in compared) == chat.compared(node)
                assert [one.compared_with for one in compared] == [
                    chat.compared(chat.nodes[one.id]) for one in compared
                ]
        for word in WORDS:
            hits = (await self.service.search(USER.id, word[:4], Filters(), limit=500)).items
            assert {(hit.conversation_id, hit.message_id) for hit in hits} == {
                (chat.id, node.id)
                for chat in there
                for node in chat.nodes.values()
                if node.content == word
            } | {(chat.id, None) for chat in there if chat.title() == word}


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        migrate(f"sqlite:///{path}")
        yield path


@settings(max_examples=40)
@given(st.lists(_step, max_size=25))
def test_everything_agrees_with_the_model(
    template: Path, steps: list[tuple[str, int, int, str]]
) -> None:
    async def scene(path: Path) -> None:
        database = Database(f"sqlite:///{path}")
        world = World(database)
        try:
            for step in steps:
                await world.do(step)
            await world.agrees()
        finally:
            await world.log.stop()
            await database.close()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "alchat.db"
        shutil.copy(template, path)
        asyncio.run(scene(path))
