"""Which addresses a provider may have: global ones, and origins that an administrator allows.

Names are resolved once, checked, and the connection goes to the checked address, so that a name
which resolves differently the second time gains nothing. What is about to be connected to is looked
at once more, whatever way it came.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
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
MAX_PLACES = 1000


class AddressRefusedError(OSError):
    """The name resolves to addresses that may not be called."""


@lru_cache(maxsize=1024)
def is_global(address: str) -> bool:
    """Whether an IP address is one that the public internet routes.

    An IPv4 address in an IPv6 one counts as itself where the network would call it (mapped, NAT64);
    tunnels do not pass. `papita_core.outbound` keeps the same rule.
    """
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip not in _UNICAST:
            return False
    if any(ip.version == net.version and ip in net for net in _SPECIAL):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")
# Protocol assignments with Teredo, documentation, 6to4 and its relays: versions of Python differ.
_SPECIAL = tuple(
    ipaddress.ip_network(net)
    for net in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")
)


class Guard:
    """Built once from `PAPITA_PROVIDER_ALLOWLIST`."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._origins = frozenset(allowed)
        self._places = frozenset(_place(origin) for origin in self._origins)
        # Addresses, with their port, that allowed names have led to.
        self._known: dict[tuple[str, int], None] = dict.fromkeys(self._places)

    def check(self, base_url: str) -> str:
        """The base URL as it is to be called, in one spelling.

        Raises `RunError` for one that is unusable or names a forbidden address.
        """
        try:
            origin = origin_of(base_url)
            parts = urlsplit(base_url)
        except ValueError:
            raise RunError("bad-request", UNUSABLE) from None
        host, _ = _place(origin)
        if parts.query or parts.fragment or not _HOST.fullmatch(host):
            raise RunError("bad-request", UNUSABLE)
        if origin not in self._origins:
            try:
                allowed = is_global(host)
            except ValueError:
                allowed = not _looks_numeric(host)
            if not allowed:
                raise RunError("bad-request", NOT_ALLOWED)
        return origin + parts.path.rstrip("/")

    def allows(self, host: str, port: int) -> bool:
        return (host, port) in self._places

    def remember(self, address: str, port: int) -> None:
        """Lets an address be called that an allowed name has led to."""
        self._known[address, port] = None
        if len(self._known) > MAX_PLACES + len(self._places):
            del self._known[next(place for place in self._known if place not in self._places)]

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The socket for one result of `getaddrinfo`, if that address may be called."""
        family, kind, protocol, _, place = info
        if not is_global(place[0]) and place[:2] not in self._known:
            raise AddressRefusedError("not a global address")
        return socket.socket(family, kind, protocol)


# What a host may consist of once `origin_of` has put it into its one spelling.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*")


def _place(origin: str) -> tuple[str, int]:
    parts = urlsplit(origin)
    default = {"http": 80, "https": 443}[parts.scheme]
    return parts.hostname or "", parts.port or default


def _looks_numeric(host: str) -> bool:
    """`127.1`, `0x7f000001` and `2130706433` are addresses to the C library, too."""
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")


class GuardedResolver(AbstractResolver):
    """Resolves names for aiohttp; one address that may not be called, and none is handed on."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            found = await self._inner.resolve(host, port, family)
        except UnicodeError:
            raise OSError("no name can be spelled like this") from None
        if self._guard.allows(host, port):
            for result in found:
                self._guard.remember(result["host"], result["port"])
        # A private address among global ones: whoever made that name means harm.
        elif not all(is_global(result["host"]) for result in found):
            raise AddressRefusedError("not a global address")
        return found

    async def close(self) -> None:
        await self._inner.close()
