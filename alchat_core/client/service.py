"""One AL-Chat service, for all users of a process."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import IO, Any, TypeVar

import requests
from requests.adapters import HTTPAdapter

from alchat_core.client.background import CONNECT_SECONDS, Background
from alchat_core.client.errors import UNREACHABLE, AlChatUnreachable, problem_of
from alchat_core.client.followers import Followers
from alchat_core.client.reading import object_of
from alchat_core.client.user import UserClient
from alchat_core.client.values import Health

PIECE = 1 << 16

T = TypeVar("T")


class AlChatClient:
    """`base_url` is `ALCHAT_URL`; `timeout` is in seconds for each JSON call."""

    def __init__(self, base_url: str, *, timeout: float = 30.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=64, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self.background = Background(self.base_url)
        self.followers = Followers(self.background)

    def as_user(self, token_source: Callable[[], str]) -> UserClient:
        """Calls on behalf of the user whose token `token_source` returns each time it is asked."""
        return UserClient(self, token_source)

    def health(self, *, timeout: float = 2.5) -> Health:
        """Never raises."""
        try:
            response = self._session.get(
                self.base_url + "/readyz", timeout=timeout, allow_redirects=False
            )
        except (requests.RequestException, OSError, ValueError):
            return Health("unreachable", UNREACHABLE)
        if response.status_code == 200:
            return Health("ok")
        body = object_of(response.content)
        if response.status_code == 503 and "code" in body:
            return Health("not-ready", str(body.get("detail", "AL-Chat is not ready.")))
        return Health("unreachable", "Something else than AL-Chat answers at its address.")

    def close(self) -> None:
        """Ends all followers and the background loop."""
        self.background.close()
        self._session.close()

    def call(
        self, method: str, path: str, token: str, *, body: Any = None, **more: Any
    ) -> dict[str, Any]:
        """The JSON object that the service answers; `body` is sent as JSON, `more` is what `ask`
        takes.
        """
        return self.wait_for(self.ask(method, path, token, body=body, **more))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """What is done in the background loop, for other threads."""
        return self.background.wait_for(work)

    async def ask(
        self,
        method: str,
        path: str,
        token: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The same in the background loop, where one call can follow another."""
        answer = await self.background.request(
            method,
            path,
            _with_token(headers, token),
            body=body,
            params=params,
            silence=self._timeout,
            again=_may_be_sent_again(method, headers),
        )
        found = object_of(answer.body)
        if not 200 <= answer.status < 300:
            raise problem_of(answer.status, found, answer.retry_after)
        return found

    def send_file(self, method: str, path: str, token: str, **more: Any) -> dict[str, Any]:
        """The JSON object that the service answers to a file; `more` as `answer` takes it."""
        return object_of(self.answer(method, path, token, **more).content)

    def download(self, path: str, token: str, into: IO[bytes], **more: Any) -> int:
        """Writes what the service answers in pieces; how many bytes that were. What is written
        before an error is not whole.
        """
        size = 0
        with self.answer("GET", path, token, stream=True, **more) as response:
            pieces = response.iter_content(PIECE)
            while True:
                try:
                    piece = next(pieces, b"")
                except requests.RequestException:
                    raise AlChatUnreachable from None
                if not piece:
                    return size
                size += into.write(piece)

    def answer(
        self,
        method: str,
        path: str,
        token: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> requests.Response:
        """The answer, if it is no refusal, for what is no JSON in one of the two directions; `more`
        as `requests` takes it.
        """
        again = _may_be_sent_again(method, headers)
        while True:
            try:
                response = self._session.request(
                    method,
                    self.base_url + path,
                    headers=_with_token(headers, token),
                    timeout=(CONNECT_SECONDS, timeout or self._timeout),
                    allow_redirects=False,
                    **more,
                )
                if not response.ok or response.status_code >= 300:
                    found = object_of(response.content)
                    break
            except requests.ConnectionError:
                if not again:
                    raise AlChatUnreachable from None
                again = False
            except (requests.RequestException, OSError):
                raise AlChatUnreachable from None
            else:
                return response
        raise problem_of(response.status_code, found, response.headers.get("Retry-After"))


def _with_token(headers: Mapping[str, str] | None, token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **(headers or {})}


def _may_be_sent_again(method: str, headers: Mapping[str, str] | None) -> bool:
    """A kept connection may be closed by the time it is used: what changes nothing, or carries an
    idempotency key, is then sent once more.
    """
    return method != "POST" or "Idempotency-Key" in (headers or {})
