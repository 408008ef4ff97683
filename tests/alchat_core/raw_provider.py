"""A provider that says byte for byte what a test wants, and what is read of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from alchat_core.credential_manager import Loan
from alchat_core.providers.openai_compatible import Answer, Provider
from alchat_core.providers.rests import Rest, no_rest
from alchat_core.secret import Secret
from alchat_core.settings import Settings

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Ask = Callable[[], AsyncGenerator[str, None]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def asking(serve: Serve, rest: Rest = no_rest) -> AsyncIterator[Ask]:
    """Each call of what it gives is a request that `serve` answers; the pieces that are read."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        provider = Provider(Settings(papita_provider_allowlist=(origin,)))
        loan = Loan("c", "openai", "l", f"{origin}/v1", Secret("sk-mine"))
        prompt = [{"role": "user", "content": "hello"}]
        try:
            yield lambda: provider.stream(loan, "m", prompt, Answer(), rest=rest)
        finally:
            await provider.close()
