"""Calls to the Papita API over one shared `aiohttp` session.

No redirects, no cookies, no proxies or netrc from the environment; a time-out for every call as a
whole; one answer is read up to a fixed size.
"""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import orjson

from alchat_core import logs
from alchat_core.metrics import Metrics

MAX_ANSWER_BYTES = 256 * 1024
CONNECT_SECONDS = 5.0


class PapitaCallError(Exception):
    """No usable answer. `reached` tells whether anybody answered at all."""

    def __init__(self, reached: bool) -> None:
        super().__init__("Papita did not answer" if not reached else "Papita answered nonsense")
        self.reached = reached


class PapitaAnswer:
    """Status, headers and the JSON object of one answer."""

    __slots__ = ("body", "retry_after", "status")

    def __init__(self, status: int, body: dict[str, Any], retry_after: int | None) -> None:
        self.status = status
        self.body = body
        self.retry_after = retry_after


class PapitaClient:
    """For one event loop. `base_url` is `PAPITA_API_URL`; `timeout` is in seconds."""

    def __init__(self, base_url: str, *, timeout: float, metrics: Metrics | None = None) -> None:
        self.base_url = base_url
        self._metrics = metrics or Metrics()
        self._timeout = timeout
        self._opened: aiohttp.ClientSession | None = None

    async def request(
        self, method: str, path: str, *, within: float | None = None, **arguments: Any
    ) -> PapitaAnswer:
        """One call, of `within` seconds at most; `arguments` are aiohttp's.

        Raises `PapitaCallError` where there should be a JSON object to return, and is none.
        """
        if (request_id := logs.request_id()) is not None:
            headers = {**arguments.pop("headers", {}), "X-Request-Id": request_id}
            arguments["headers"] = headers
        begin, outcome = time.monotonic(), "unreachable"
        try:
            answer = await self._ask(method, path, within, arguments)
            outcome = "ok" if answer.status < 400 else "refused"
            if answer.status >= 500:
                outcome = "failed"
            return answer
        except PapitaCallError as error:
            outcome = "failed" if error.reached else "unreachable"
            raise
        finally:
            self._metrics.asked_papita(path, outcome, time.monotonic() - begin)

    async def _ask(
        self, method: str, path: str, within: float | None, arguments: dict[str, Any]
    ) -> PapitaAnswer:
        limit = min(within or self._timeout, self._timeout)
        try:
            async with self._session().request(
                method,
                self.base_url + path,
                timeout=aiohttp.ClientTimeout(
                    total=limit, sock_connect=min(limit, CONNECT_SECONDS)
                ),
                allow_redirects=False,
                **arguments,
            ) as response:
                raw = await _beginning(response.content)
                status = response.status
                retry_after = _seconds(response.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            raise PapitaCallError(reached=False) from None
        if status == 204:
            return PapitaAnswer(status, {}, retry_after)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        if len(raw) > MAX_ANSWER_BYTES or not isinstance(body, dict):
            if status < 400:
                raise PapitaCallError(reached=True)
            body = {}
        return PapitaAnswer(status, body, retry_after)

    def _session(self) -> aiohttp.ClientSession:
        # Made at the first call: it belongs to the loop that runs then.
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=128, ttl_dns_cache=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                # What is packed could unpack to anything.
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
            )
        return self._opened

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """The body, or of a longer one no more than shows that it is too long."""
    parts, size = [], 0
    async for part in content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            break
    return b"".join(parts)


def _seconds(value: str | None) -> int | None:
    return (
        min(int(value), 86_400)
        if value is not None and value.isascii() and value.isdigit()
        else None
    )
