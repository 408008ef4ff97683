"""Which addresses a provider may have: global ones, and origins that an administrator allows.

Names are resolved once, checked, and the connection goes to the checked address, so that a name
which resolves differently the second time gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from alchat_core.errors import RunError
from alchat_core.settings import origin_of

NOT_ALLOWED = (
    "The base URL of your key leads to an address that is not on the public internet."
    " An administrator can allow it with PAPITA_PROVIDER_ALLOWLIST."
)
UNUSABLE = "The base URL of your key cannot be used. Correct it under Credentials, then try again."


class AddressRefusedError(OSError):
    """The name resolves to addresses that may not be called."""


def is_global(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also when wrapped in IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Guard:
    """Built once from `PAPITA_PROVIDER_ALLOWLIST`."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._origins = frozenset(allowed)
        self._places = frozenset(_place(origin) for origin in self._origins)

    def check(self, base_url: str) -> None:
        """Raises `RunError` for a base URL that is unusable or names a forbidden address."""
        try:
            origin = origin_of(base_url)
        except ValueError:
            raise RunError("bad-request", UNUSABLE) from None
        if origin in self._origins:
            return
        host, _ = _place(origin)
        try:
            allowed = is_global(host)
        except ValueError:
            if _looks_numeric(host):
                raise RunError("bad-request", NOT_ALLOWED) from None
            return
        if not allowed:
            raise RunError("bad-request", NOT_ALLOWED)

    def allows(self, host: str, port: int) -> bool:
        return (host, port) in self._places


def _place(origin: str) -> tuple[str, int]:
    parts = urlsplit(origin)
    default = {"http": 80, "https": 443}[parts.scheme]
    return parts.hostname or "", parts.port or default


def _looks_numeric(host: str) -> bool:
    """`127.1`, `0x7f000001` and `2130706433` are addresses to the C library, too."""
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or last.lower().startswith("0x")


class GuardedResolver(AbstractResolver):
    """Resolves names for aiohttp and leaves out what may not be called."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if self._guard.allows(host, port):
            return found
        allowed = [result for result in found if is_global(result["host"])]
        if not allowed:
            raise AddressRefusedError("not a global address")
        return allowed

    async def close(self) -> None:
        await self._inner.close()
