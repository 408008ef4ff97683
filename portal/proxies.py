"""Whose word counts on where a request comes from: the configured reverse proxies alone.

Anybody can send `X-Forwarded-For`, and limits count by address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


def behind_proxies(app: ASGIApp, trusted: Sequence[str]) -> ASGIApp:
    """The app as it sees requests that came through proxies in the networks `trusted`: the address
    is the last one that none of them has, the scheme is what they say. Without any, the headers do
    nothing.
    """
    inner: Any = ProxyHeadersMiddleware(app, list(trusted)) if trusted else app  # type: ignore[arg-type]

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope.get("client"):
            host, port = scope["client"]
            scope["client"] = (_plain(host), port)
        await inner(scope, receive, send)

    return front


def _plain(host: str) -> str:
    """A socket for both kinds of addresses shows those of IPv4 as `::ffff:192.0.2.1`."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return host if mapped is None else str(mapped)
