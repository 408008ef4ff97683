"""Where many answers are written at once, each is read as often as what it says is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from raw_provider import END, HEAD, asking, chunk

from alchat_core.db.engine import Database
from alchat_core.errors import RunError
from alchat_core.providers.rests import MUCH_BYTES
from alchat_core.runs.log import RESTING_RUNS, DatabaseLog

DONE = b"data: [DONE]\n\n"
LONG = 60.0
PATIENCE = 10.0


def saying(text: str) -> bytes:
    event = orjson.dumps({"choices": [{"delta": {"content": text}}]})
    return chunk(b"data: " + event + b"\n\n")


class Talk:
    """What the provider may do: say something, and wait until so many pieces were read."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.read = 0
        self._one_more = asyncio.Event()

    def say(self, *texts: str) -> None:
        self.writer.write(b"".join(map(saying, texts)))

    def end(self) -> None:
        self.writer.write(chunk(DONE) + END)

    async def until_read(self, count: int) -> None:
        while self.read < count:
            self._one_more.clear()
            await self._one_more.wait()

    def took(self) -> None:
        self.read += 1
        self._one_more.set()


def pieces(play: Callable[[Talk], Awaitable[None]], rest: float) -> list[str]:
    """What is read of an answer, in the pieces in which it is."""
    found: list[str] = []

    async def scenario() -> None:
        talks: list[Talk] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            talks.append(Talk(writer))
            writer.write(HEAD)
            await play(talks[0])
            await reader.read()
            writer.close()

        async with asyncio.timeout(PATIENCE), asking(serve, lambda: rest) as ask:
            async for piece in ask():
                found.append(piece)
                talks[0].took()

    asyncio.run(scenario())
    return found


def test_without_rests_each_piece_is_read_as_it_comes() -> None:
    async def play(talk: Talk) -> None:
        for number in range(3):
            talk.say(str(number))
            await talk.until_read(number + 1)
        talk.end()

    assert pieces(play, 0.0) == ["0", "1", "2"]


def test_what_comes_in_a_rest_is_read_after_it_and_the_end_ends_it() -> None:
    async def play(talk: Talk) -> None:
        talk.say("first ")
        await talk.until_read(1)
        for text in ("and ", "then ", "more"):
            talk.say(text)
            await talk.writer.drain()
            await asyncio.sleep(0.02)
        talk.end()

    assert pieces(play, LONG) == ["first ", "and then more"]


def test_a_rest_that_is_over_needs_no_end() -> None:
    async def play(talk: Talk) -> None:
        talk.say("first ")
        await talk.until_read(1)
        talk.say("second ")
        await talk.until_read(2)
        talk.end()

    assert pieces(play, 0.01) == ["first ", "second "]


def test_whoever_sends_much_at_once_is_not_made_to_wait() -> None:
    async def play(talk: Talk) -> None:
        talk.say("x" * MUCH_BYTES)
        sent = 1
        while talk.read < 2:  # the first may be read in more than one piece
            await talk.until_read(sent)
            talk.say("y" * MUCH_BYTES)
            sent += 1
        talk.end()

    assert len("".join(pieces(play, LONG))) >= 2 * MUCH_BYTES


def test_a_cut_in_a_rest_is_told() -> None:
    async def play(talk: Talk) -> None:
        talk.say("first ")
        await talk.until_read(1)
        talk.writer.transport.abort()

    with pytest.raises(RunError) as raised:
        pieces(play, 0.05)
    assert raised.value.code == "provider-cut-off"


def test_only_many_answers_rest_and_no_longer_than_until_the_next_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        database = Database(f"sqlite:///{tmp_path / 'alchat.db'}")
        log = DatabaseLog(database, interval=0.01)
        for number in range(RESTING_RUNS - 1):
            log.open(f"r{number}", "c", f"m{number}")
        assert log.rest() == 0.0
        log.open("one more", "c", "m")
        # A moment less another one is not exact.
        assert 0.0 < log.rest() <= 0.01 + RESTING_RUNS * 0.001 + 1e-6
        await database.close()

    asyncio.run(scenario())
