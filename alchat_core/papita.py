"""Calls to the Papita API over one shared `requests` session, in threads of its own.

No redirects, no proxies or netrc from the environment, time-outs on every call; one answer is
read up to a fixed size.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import requests
from requests.adapters import HTTPAdapter

MAX_ANSWER_BYTES = 256 * 1024


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
    """Thread-safe. `base_url` is `PAPITA_API_URL`; `timeout` is in seconds."""

    def __init__(self, base_url: str, *, timeout: float) -> None:
        self.base_url = base_url
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=16, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="papita")

    async def run(self, function: Any, *arguments: Any) -> Any:
        """Runs a blocking function that calls `request` in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def request(
        self, method: str, path: str, *, timeout: float | None = None, **arguments: Any
    ) -> PapitaAnswer:
        """Blocking. Raises `PapitaCallError` if there is no JSON object to return."""
        limit = min(timeout or self._timeout, self._timeout)
        try:
            with self._session.request(
                method,
                self.base_url + path,
                timeout=(min(limit, 5.0), limit),
                allow_redirects=False,
                stream=True,
                **arguments,
            ) as response:
                raw = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
                status = response.status_code
                retry_after = _seconds(response.headers.get("Retry-After"))
                self._session.cookies.clear()
        except (requests.RequestException, OSError, ValueError):
            raise PapitaCallError(reached=False) from None
        except Exception as error:
            # urllib3's errors come through when the body is read raw.
            if type(error).__module__.startswith("urllib3"):
                raise PapitaCallError(reached=False) from None
            raise
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        if len(raw) > MAX_ANSWER_BYTES or not isinstance(body, dict):
            if status < 400:
                raise PapitaCallError(reached=True)
            body = {}
        return PapitaAnswer(status, body, retry_after)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._session.close()


def _seconds(value: str | None) -> int | None:
    return (
        min(int(value), 86_400)
        if value is not None and value.isascii() and value.isdigit()
        else None
    )
