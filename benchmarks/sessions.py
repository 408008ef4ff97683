"""Chat sessions without a browser: each sends one message from the chat page and reads until the
answer is drawn.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

from benchmarks.tab import SessionFailed, Tab
from demo.provider.scripts import script_for

PAGE = "al-chat"
OPEN_SECONDS = 60.0


@dataclass(frozen=True)
class Chatted:
    """Seconds from sending the message to the first word and to the end of the answer; bytes."""

    first: float
    end: float
    bytes: int


class ChatSession(Tab):
    """One open chat page."""

    _input_id = ""

    async def open(self) -> None:
        """Asks for the chat page and waits until it is drawn."""
        await self.rerun()
        end = time.monotonic() + OPEN_SECONDS
        while time.monotonic() < end:
            message = ForwardMsg.FromString(await self.receive(end - time.monotonic()))
            if message.HasField("navigation"):
                self.page_hash = message.navigation.page_script_hash
            if message.metadata.cacheable:
                self.keep(message.hash)
            element = message.delta.new_element
            if element.HasField("chat_input"):
                self._input_id = element.chat_input.id
            if message.HasField("script_finished") and self._input_id:
                return
        raise SessionFailed("the chat page did not come")

    async def say(self, text: str, head: bytes, tail: bytes, seconds: float) -> Chatted:
        """Sends a message; `head` and `tail` are what the answer begins and ends with."""
        typed = WidgetState(id=self._input_id)
        typed.chat_input_value.data = text
        begin = time.perf_counter()
        await self.rerun(typed)
        first, size = 0.0, 0
        while True:
            left = seconds - (time.perf_counter() - begin)
            data = await self.receive(left)
            size += len(data)
            if not first and head in data:
                first = time.perf_counter() - begin
            if first and tail in data:
                return Chatted(first, time.perf_counter() - begin, size)


async def chat(job: dict[str, Any]) -> dict[str, Any]:
    """`count` sessions of the users whose cookies are given send at the same moment."""
    model = f"stream-{job['tokensEach']}-{job['intervalMs']}"
    text = script_for(model).text
    head, tail = (part.encode() for part in (" ".join(text.split()[:2]), text.split("\n\n")[-1]))
    ideal = (job["tokensEach"] - 1) * job["intervalMs"] / 1000
    cookies: Iterator[str] = itertools.cycle(job["cookies"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        sessions = [
            await _connect(http, job["url"], job["cookieName"], next(cookies))
            for _ in range(job["count"])
        ]
        await asyncio.sleep(1)
        taken: Sequence[Chatted] = await asyncio.gather(
            *(one.say("Go on.", head, tail, 4 * ideal + 30) for one in sessions)
        )
    return {
        "sessions": job["count"],
        "idealS": ideal,
        "endS": sorted(one.end for one in taken),
        "firstMs": sorted(one.first * 1000 for one in taken),
        "bytesEach": sum(one.bytes for one in taken) / len(taken),
    }


async def _connect(
    http: aiohttp.ClientSession, url: str, cookie_name: str, cookie: str
) -> ChatSession:
    session = await ChatSession.connect(http, url, PAGE, f"{cookie_name}={cookie}")
    await session.open()
    return session
