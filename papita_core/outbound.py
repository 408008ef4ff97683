"""One guarded HTTP request to an address that a user typed.

The name is resolved once and the connection goes to that very address, so it cannot change between
check and use. Only global addresses are called, unless the origin is allowed by name; redirects are
not followed, time and size are limited.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from papita_core.settings import origin_of

MAX_BYTES = 2 * 1024 * 1024
NO_ANSWER = "The provider does not answer. Check the base URL and that the provider is up."


class Unreachable(Exception):
    """No answer could be had; the message is a sentence."""


class AddressRefused(Unreachable):
    """The address is not a global one and not allowed by PAPITA_PROVIDER_ALLOWLIST."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def get(
    url: str,
    headers: Mapping[str, str],
    *,
    allowlist: Collection[str] = (),
    connect_seconds: float = 5.0,
    read_seconds: float = 10.0,
    total_seconds: float = 15.0,
) -> Answer:
    """GETs `url`. Raises `Unreachable`; every HTTP status is an answer."""
    try:
        origin = origin_of(url)
    except ValueError as error:
        raise Unreachable(f"The base URL cannot be used: {error}.") from None
    parts = urlsplit(origin)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _resolve(host, port, allowed=origin in allowlist)
    connection: HTTPConnection
    if parts.scheme == "https":
        connection = HTTPSConnection(
            address,
            port,
            timeout=connect_seconds,
            server_hostname=host,
            assert_hostname=host,
            ssl_context=ssl.create_default_context(cafile=ca_file()),
        )
    else:
        connection = HTTPConnection(address, port, timeout=connect_seconds)
    out_of_time = threading.Event()
    wires: list[socket.socket] = []  # the connection forgets its own once it has an answer

    def break_off() -> None:
        # A server that sends a byte now and then would never run into the time-outs of a socket.
        out_of_time.set()
        for wire in filter(None, (*wires, connection.sock)):
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(total_seconds, break_off)
    watch.daemon = True
    watch.start()
    try:
        connection.connect()
        wires.append(connection.sock)
        connection.timeout = read_seconds
        connection.request(
            "GET",
            quote(urlsplit(url.strip()).path or "/", safe="/%:@!$&'()*+,;=~-._"),
            headers={**headers, "Host": parts.netloc, "Accept": "application/json"},
            preload_content=False,
            decode_content=False,
        )
        response = connection.getresponse()
        body = response.read(MAX_BYTES)
        response.close()
    except (ssl.SSLError, urllib3.exceptions.SSLError):
        raise Unreachable("The certificate of the provider could not be verified.") from None
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
        raise Unreachable(NO_ANSWER) from None
    finally:
        watch.cancel()
        connection.close()
    if out_of_time.is_set():
        raise Unreachable(NO_ANSWER)
    return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, body)


def is_global(address: str) -> bool:
    """Whether an IP address is one that the public internet routes.

    An IPv4 address in an IPv6 one counts as itself where the network would call it (mapped, NAT64);
    tunnels do not pass. `alchat_core.providers.guard` keeps the same rule.
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


def _resolve(host: str, port: int, *, allowed: bool) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unreachable("There is no such host. Check the base URL.") from None
    addresses = [str(item[4][0]) for item in found]
    if allowed:
        return addresses[0]
    for address in addresses:
        # One private address among them is enough to refuse: whoever made that name means harm.
        if not is_global(address):
            raise AddressRefused(
                "The base URL leads to a private address. An administrator can allow it with"
                " PAPITA_PROVIDER_ALLOWLIST."
            )
    return addresses[0]


def ca_file() -> str:
    """The certificates of those who certify, as the system has them."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or certifi.where()
