"""A connection to a provider is used again, although its body ends only after the answer."""

from __future__ import annotations

import asyncio

import pytest
from raw_provider import END, HEAD, asking, chunk

from alchat_core.providers import openai_compatible

DATA = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\ndata: [DONE]\n\n'
ANSWERS = 3


async def connections_for(pause: float | None) -> int:
    """How many connections so many answers take, where a body ends `pause` seconds after its
    answer, or never.
    """
    served: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        while head := await reader.read(65536):
            if b"\r\n\r\n{" not in head:  # the body comes by itself
                await reader.read(65536)
            writer.write(HEAD + chunk(DATA))
            if pause is None:
                await reader.read()
                break
            await asyncio.sleep(pause)
            writer.write(END)
        writer.close()
        await writer.wait_closed()

    async with asking(serve) as ask:
        for _ in range(ANSWERS):
            assert [piece async for piece in ask()] == ["hello"]
    await asyncio.wait([task for task in served if task is not None], timeout=5)
    return len(served)


@pytest.mark.parametrize(
    ("pause", "opened"), [(0.0, 1), (0.02, 1), (None, ANSWERS)], ids=["at once", "later", "never"]
)
def test_connections(pause: float | None, opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if pause is not None:  # what is late here is late by the body's end, not by a busy machine
        monkeypatch.setattr(openai_compatible, "_DRAIN_SECONDS", 5.0)
    assert asyncio.run(connections_for(pause)) == opened
