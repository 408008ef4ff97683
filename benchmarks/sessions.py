"""Chat sessions without a browser: each opens the page's websocket as a browser does, sends one
message from the chat page and reads until the answer is drawn.

What is read is looked through as bytes: a client that decoded every message would cost more than
the portal.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

from demo.provider.scripts import script_for

PAGE = "al-chat"
OPEN_SECONDS = 60.0


class SessionFailed(Exception):
    """A page that did not come, or an answer that is not the one that was asked for."""


@dataclass(frozen=True)
class Chatted:
    """Seconds from sending the message to the first word and to the end of the answer; bytes."""

    first: float
    end: float
    bytes: int


class ChatSession:
    """One open chat page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, url: str) -> None:
        self._socket = socket
        self._url = url
        self._page_hash = ""
        self._input_id = ""
        self._kept: list[str] = []
        self._arrived: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()
        # Reads always, as a browser does: only who reads answers the portal's pings, and who does
        # not for ten seconds is taken for gone.
        self._reading = asyncio.create_task(self._read())

    async def open(self) -> None:
        """Asks for the chat page and waits until it is drawn."""
        await self._rerun()
        end = time.monotonic() + OPEN_SECONDS
        while time.monotonic() < end:
            message = ForwardMsg.FromString(await self._receive(end - time.monotonic()))
            if message.HasField("navigation"):
                self._page_hash = message.navigation.page_script_hash
            if message.metadata.cacheable:
                self._kept.append(message.hash)
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
        await self._rerun(typed)
        first, size = 0.0, 0
        while True:
            left = seconds - (time.perf_counter() - begin)
            data = await self._receive(left)
            size += len(data)
            if not first and head in data:
                first = time.perf_counter() - begin
            if first and tail in data:
                return Chatted(first, time.perf_counter() - begin, size)

    async def _read(self) -> None:
        while not self._socket.closed:
            self._arrived.put_nowait(await self._socket.receive())

    async def _rerun(self, *widgets: WidgetState) -> None:
        message = BackMsg()
        state = message.rerun_script
        state.page_script_hash = self._page_hash
        state.page_name = "" if self._page_hash else PAGE
        state.widget_states.widgets.extend(widgets)
        # As a browser does, so that what it has is not sent again.
        state.cached_message_hashes.extend(self._kept)
        state.context_info.timezone = "UTC"
        state.context_info.locale = "en-US"
        state.context_info.url = f"{self._url}/{PAGE}"
        await self._socket.send_bytes(message.SerializeToString())

    async def _receive(self, seconds: float) -> bytes:
        try:
            message = await asyncio.wait_for(self._arrived.get(), max(seconds, 0.01))
        except TimeoutError:
            raise SessionFailed("the page did not bring what was asked for in time") from None
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise SessionFailed(f"the websocket said {message.type.name}: {message.data}")
        return bytes(message.data)


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
    address = urlsplit(url)
    socket = await http.ws_connect(
        f"ws://{address.netloc}/_stcore/stream",
        protocols=("streamlit",),
        origin=url,
        headers={"Cookie": f"{cookie_name}={cookie}"},
        compress=15,
        max_msg_size=0,
    )
    session = ChatSession(socket, url)
    await session.open()
    return session
