"""HTTP clients that call nothing but what the guard allows.

No redirects, cookies, or proxies and credentials of the environment: behind a proxy, no address
could be checked.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import cache

import aiohttp
import httpx2
from openai._vendor.httpx_aiohttp.transport import AiohttpTransport

from alchat_core.providers.guard import Guard, GuardedResolver

Hook = Callable[[httpx2.Response], Awaitable[None]]


def guarded_session(guard: Guard, context: ssl.SSLContext) -> aiohttp.ClientSession:
    """Resolves names once, checks each address, and connects to what was checked."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=GuardedResolver(guard),
            socket_factory=guard.socket,
            ssl=context,
            limit=0,
            keepalive_timeout=30.0,
            ttl_dns_cache=30,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def guarded_client(
    guard: Guard, *, headers: Mapping[str, str], timeout: httpx2.Timeout, on_response: Hook
) -> httpx2.AsyncClient:
    """A client for one server, to be closed by the caller; `on_response` sees each response before
    its body is read.
    """
    context = _context()
    transport = AiohttpTransport(verify=context, client=lambda: guarded_session(guard, context))
    return httpx2.AsyncClient(
        transport=transport,
        headers={"Accept-Encoding": "identity", **headers},
        timeout=timeout,
        follow_redirects=False,
        # The MCP SDK follows redirects within an origin by itself, up to this number.
        max_redirects=0,
        trust_env=False,
        event_hooks={"response": [on_response]},
    )


@cache
def _context() -> ssl.SSLContext:
    """Reading all certificates takes long enough to do it once."""
    return httpx2.create_ssl_context(trust_env=False)
