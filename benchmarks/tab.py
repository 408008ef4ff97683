"""One tab without a browser: it opens the page's websocket as a browser does.

What comes is kept as bytes until somebody asks for it: a client that decoded every message would
cost more than the portal.
"""

from __future__ import annotations

import asyncio
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState


class SessionFailed(Exception):
    """A page that did not come, or an answer that is not the one that was asked for."""


class Tab:
    """One open websocket of the portal."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, url: str, page: str) -> None:
        self._socket = socket
        self._url = url
        self._page = page
        self.page_hash = ""
        self._kept: list[str] = []
        self._arrived: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()
        # Reads always, as a browser does: only who reads answers the portal's pings, and who does
        # not for ten seconds is taken for gone.
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(
        cls, http: aiohttp.ClientSession, url: str, page: str, cookie: str = ""
    ) -> Self:
        """`page` is the address that is asked for, `cookie` the header of that name."""
        socket = await http.ws_connect(
            f"ws://{urlsplit(url).netloc}/_stcore/stream",
            protocols=("streamlit",),
            origin=url,
            headers={"Cookie": cookie} if cookie else {},
            compress=15,
            max_msg_size=0,
        )
        return cls(socket, url, page)

    async def close(self) -> None:
        await self._socket.close()
        await self._reading

    def keep(self, message_hash: str) -> None:
        """Says from now on, as a browser does, that this message need not be sent again."""
        self._kept.append(message_hash)

    async def rerun(self, *widgets: WidgetState) -> None:
        message = BackMsg()
        state = message.rerun_script
        state.page_script_hash = self.page_hash
        state.page_name = "" if self.page_hash else self._page
        state.widget_states.widgets.extend(widgets)
        state.cached_message_hashes.extend(self._kept)
        state.context_info.timezone = "UTC"
        state.context_info.locale = "en-US"
        state.context_info.url = f"{self._url}/{self._page}"
        await self._socket.send_bytes(message.SerializeToString())

    async def receive(self, seconds: float) -> bytes:
        try:
            # `wait_for` makes a task for each message, which costs more than the message.
            async with asyncio.timeout(max(seconds, 0.01)):
                message = await self._arrived.get()
        except TimeoutError:
            raise SessionFailed("the page did not bring what was asked for in time") from None
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise SessionFailed(f"the websocket said {message.type.name}: {message.data}")
        return bytes(message.data)

    async def _read(self) -> None:
        while not self._socket.closed:
            self._arrived.put_nowait(await self._socket.receive())
