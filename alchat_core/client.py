"""A typed client of the AL-Chat service: thread-safe, built once per process.

JSON calls go over `requests` in the caller's thread; one background loop serves all followers of
the process, reconnects by itself from the last event seen, and waits for whoever reads slowly.

    AlChatError
    ├── AlChatUnreachable       nobody answered; the request may be sent again
    └── AlChatProblem           a refusal: `status`, `code`, `detail`, `retry_after`
        ├── NotSignedIn   401
        ├── NotFound      404
        ├── Conflict      409   `code` is `run-active`, or that of a credential's fault
        ├── Invalid       422
        ├── TooMany       429
        └── Unavailable   5xx
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar

import aiohttp
import requests
from requests.adapters import HTTPAdapter

T = TypeVar("T")

TERMINAL: Final = frozenset({"run.completed", "run.failed", "run.cancelled", "run.interrupted"})
MAX_WAITING_EVENTS: Final = 1000
SILENCE_SECONDS: Final = 25.0
LONGEST_PAUSE_SECONDS: Final = 2.0
GIVE_UP_SECONDS: Final = 60.0

_UNREACHABLE = "AL-Chat cannot be reached at the moment. Try again shortly."


class AlChatError(Exception):
    """Base of this module's errors; `str()` is a sentence that a user may read."""


class AlChatUnreachable(AlChatError):
    def __init__(self) -> None:
        super().__init__(_UNREACHABLE)


class AlChatProblem(AlChatError):
    """`retry_after` is in seconds."""

    def __init__(self, status: int, code: str, detail: str, retry_after: int | None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


class NotSignedIn(AlChatProblem):
    pass


class NotFound(AlChatProblem):
    pass


class Conflict(AlChatProblem):
    pass


class Invalid(AlChatProblem):
    pass


class TooMany(AlChatProblem):
    pass


class Unavailable(AlChatProblem):
    pass


_BY_STATUS = {401: NotSignedIn, 404: NotFound, 409: Conflict, 422: Invalid, 429: TooMany}


@dataclass(frozen=True, slots=True)
class Health:
    """`reason` is a sentence, empty if all is well."""

    state: Literal["ok", "not-ready", "unreachable"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next_cursor` is None on the last page. Iterating gives the items."""

    items: tuple[T, ...]
    next_cursor: str | None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    title: str
    model: str | None
    pinned: bool
    archived: bool
    created_at: datetime
    updated_at: datetime
    last_message_at: datetime
    active_run_id: str | None


@dataclass(frozen=True, slots=True)
class RunFailure:
    """Why an answer failed. `retry_after` is in seconds."""

    code: str
    message: str
    retryable: bool
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class MessageRun:
    id: str
    state: str


@dataclass(frozen=True, slots=True)
class Message:
    """While `run.state` is queued or running, follow the run from 0: what its events say comes
    after `content`, which is empty unless the answer is being continued.
    """

    id: str
    conversation_id: str
    parent_id: str | None
    role: Literal["user", "assistant"]
    content: str
    model: str | None
    created_at: datetime
    run: MessageRun | None
    error: RunFailure | None
    usage: Mapping[str, int] | None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    conversation_id: str
    message_id: str
    user_message_id: str
    state: str
    model: str | None
    created_at: datetime
    finished_at: datetime | None
    last_event: int
    error: RunFailure | None
    credential_id: str | None = None
    credential_type: str | None = None
    parameters: Mapping[str, Any] | None = None

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")


@dataclass(frozen=True, slots=True)
class Sent:
    """`message_id` is the assistant's message."""

    message_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Event:
    """`id` counts from 1; `data` as the service sends it, for example {"text": "…"}."""

    id: int
    type: str
    data: Mapping[str, Any]

    @property
    def terminal(self) -> bool:
        return self.type in TERMINAL


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
        self._followers = _Followers(self.base_url)

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
            return Health("unreachable", _UNREACHABLE)
        if response.status_code == 200:
            return Health("ok")
        body = _object(response)
        if response.status_code == 503 and "code" in body:
            return Health("not-ready", str(body.get("detail", "AL-Chat is not ready.")))
        return Health("unreachable", "Something else than AL-Chat answers at its address.")

    def close(self) -> None:
        """Ends all followers and the background loop."""
        self._followers.close()
        self._session.close()

    def _call(
        self,
        method: str,
        path: str,
        token: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        # A kept connection may be closed by the time it is used: what changes nothing, or carries
        # an idempotency key, is then sent once more.
        again = method != "POST" or "Idempotency-Key" in (headers or {})
        while True:
            try:
                response = self._session.request(
                    method,
                    self.base_url + path,
                    headers={"Authorization": f"Bearer {token}", **(headers or {})},
                    json=body,
                    params=params,
                    timeout=(5.0, self._timeout),
                    allow_redirects=False,
                )
                break
            except requests.ConnectionError:
                if not again:
                    raise AlChatUnreachable from None
                again = False
            except (requests.RequestException, OSError):
                raise AlChatUnreachable from None
        found = _object(response)
        if response.ok and response.status_code < 300:
            return found
        raise _problem(response.status_code, found, response.headers.get("Retry-After"))


class UserClient:
    """All that one user can ask for. Raises `AlChatError`."""

    def __init__(self, client: AlChatClient, token_source: Callable[[], str]) -> None:
        self._client = client
        self._token_source = token_source

    def models(self) -> tuple[str, ...]:
        """Names of the models, the default first."""
        found = self._call("GET", "/api/models")
        names = [item["id"] for item in found["models"]]
        default = found.get("default")
        return tuple(dict.fromkeys([default, *names] if default else names))

    def conversations(
        self,
        search: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        *,
        archived: bool = False,
    ) -> Page[Conversation]:
        """Pinned ones first, then by the last message."""
        params = {"search": search, "cursor": cursor, "limit": limit}
        if archived:
            params["archived"] = "true"
        found = self._call("GET", "/api/conversations", params=params)
        return Page(
            tuple(_conversation(item) for item in found["conversations"]), found["nextCursor"]
        )

    def create_conversation(self, title: str | None = None) -> Conversation:
        body = {} if title is None else {"title": title}
        return _conversation(self._call("POST", "/api/conversations", body=body))

    def conversation(self, conversation_id: str) -> Conversation:
        return _conversation(self._call("GET", f"/api/conversations/{_id(conversation_id)}"))

    def update_conversation(
        self,
        conversation_id: str,
        *,
        title: str | None = None,
        pinned: bool | None = None,
        archived: bool | None = None,
    ) -> Conversation:
        """What is None stays as it is."""
        given = {"title": title, "pinned": pinned, "archived": archived}
        body = {name: value for name, value in given.items() if value is not None}
        return _conversation(
            self._call("PATCH", f"/api/conversations/{_id(conversation_id)}", body=body)
        )

    def delete_conversation(self, conversation_id: str) -> None:
        self._call("DELETE", f"/api/conversations/{_id(conversation_id)}")

    def messages(
        self, conversation_id: str, before: str | None = None, limit: int = 100
    ) -> Page[Message]:
        """A page of the active branch, newest last; give `next_cursor` as `before` for older."""
        found = self._call(
            "GET",
            f"/api/conversations/{_id(conversation_id)}/messages",
            params={"before": before, "limit": limit},
        )
        return Page(tuple(_message(item) for item in found["messages"]), found["nextCursor"])

    def send(
        self,
        conversation_id: str,
        content: str,
        model: str | None = None,
        parent_id: str | None = None,
        idempotency_key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Sent:
        """Stores the message and starts the answer."""
        given = {
            "content": content,
            "model": model,
            "parentId": parent_id,
            "parameters": parameters,
        }
        return self._start(
            f"/api/conversations/{_id(conversation_id)}/messages",
            {name: value for name, value in given.items() if value is not None},
            idempotency_key,
        )

    def retry(
        self,
        user_message_id: str,
        model: str | None = None,
        idempotency_key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Sent:
        """One more answer to a message of the user."""
        return self._start(
            f"/api/messages/{_id(user_message_id)}/runs",
            _chosen(model, parameters),
            idempotency_key,
        )

    def go_on(
        self,
        message_id: str,
        model: str | None = None,
        idempotency_key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Sent:
        """Continues an answer that was broken off; the events of the run have the new text only."""
        return self._start(
            f"/api/messages/{_id(message_id)}/continue",
            _chosen(model, parameters),
            idempotency_key,
        )

    def _start(self, path: str, body: dict[str, Any], idempotency_key: str | None) -> Sent:
        """Starts an answer; without a key of the caller's own it gets one."""
        key = idempotency_key or uuid.uuid4().hex
        found = self._call("POST", path, body=body, headers={"Idempotency-Key": key})
        return Sent(found["messageId"], found["runId"])

    def run(self, run_id: str) -> Run:
        return _run(self._call("GET", f"/api/runs/{_id(run_id)}"))

    def cancel(self, run_id: str) -> Run:
        """Returns when the run and the provider's stream have ended."""
        return _run(self._call("POST", f"/api/runs/{_id(run_id)}/cancel"))

    def follow(self, run_id: str, after: int = 0) -> Follower:
        """The events of a run with a higher number than `after`; use it in a `with` block."""
        return self._client._followers.follow(_id(run_id), after, self._token_source)

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        return self._client._call(method, path, self._token_source(), **more)


class Follower:
    """What has arrived waits here. One thread reads; `close()` may come from any."""

    def __init__(self, owner: _Followers, run_id: str, after: int, first_token: str) -> None:
        self._owner = owner
        self.run_id = run_id
        self.last_id = after
        self._first_token: str | None = first_token
        self._condition = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._ended = False
        self._finished = False
        self._error: AlChatError | None = None
        self._connected = False
        self._room: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def finished(self) -> bool:
        """True once the event that ends the run has been handed out, or nothing more can come."""
        return self._finished

    @property
    def connected(self) -> bool:
        """Whether the stream is open right now; while it is not, it is being opened again."""
        return self._connected

    def wait(self, timeout: float = 0.25) -> list[Event]:
        """New events, at once if there are any; [] after `timeout` seconds.

        Raises `AlChatError` if the run cannot be followed (any more).
        """
        with self._condition:
            if not self._waiting and not self._ended:
                self._condition.wait(timeout)
            events = list(self._waiting)
            self._waiting.clear()
            if self._ended and (not events or events[-1].terminal):
                self._finished = True
            error = self._error if self._ended and not events else None
        if error is not None:
            raise error
        if len(events) >= MAX_WAITING_EVENTS // 2:
            self._owner.make_room(self)
        return events

    def rest(self, seconds: float) -> None:
        """Lets events gather for `seconds`, or until the one that ends the run is there."""
        with self._condition:
            self._condition.wait_for(self._nothing_more, seconds)

    def _nothing_more(self) -> bool:
        return self._ended or bool(self._waiting and self._waiting[-1].terminal)

    def close(self) -> None:
        self._owner.end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _put(self, events: list[Event]) -> bool:
        """From the loop; False if the reader is too far behind to get more now."""
        with self._condition:
            self._waiting.extend(events)
            self.last_id = events[-1].id
            self._condition.notify_all()
            return len(self._waiting) < MAX_WAITING_EVENTS

    def _end(self, error: AlChatError | None = None) -> None:
        with self._condition:
            self._ended = True
            self._error = error
            self._condition.notify_all()


class _Followers:
    """The background loop, started with the first follower."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._session: aiohttp.ClientSession | None = None

    def follow(self, run_id: str, after: int, token_source: Callable[[], str]) -> Follower:
        follower = Follower(self, run_id, after, token_source())
        loop = self._running_loop()
        loop.call_soon_threadsafe(self._begin, follower, token_source)
        return follower

    def end(self, follower: Follower) -> None:
        follower._end()
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_cancel, follower)

    def make_room(self, follower: Follower) -> None:
        loop = self._loop
        if loop is not None and follower._room is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(follower._room.set)

    def close(self) -> None:
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5.0)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve, args=(self._loop,), name="alchat-followers", daemon=True
                )
                self._thread.start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            if self._session is not None:
                loop.run_until_complete(self._session.close())
                self._session = None
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _begin(self, follower: Follower, token_source: Callable[[], str]) -> None:
        follower._room = asyncio.Event()
        follower._task = asyncio.ensure_future(self._follow(follower, token_source))

    async def _follow(self, follower: Follower, token_source: Callable[[], str]) -> None:
        error: AlChatError | None = AlChatUnreachable()
        pause = 0.05
        down_since: float | None = None
        try:
            while True:
                before = follower.last_id
                try:
                    if await self._once(follower, token_source):
                        error = None
                        return
                except AlChatProblem as problem:
                    if problem.status not in (429, 502, 503, 504):
                        error = problem
                        return
                except (aiohttp.ClientError, TimeoutError, OSError):
                    pass
                finally:
                    follower._connected = False
                now = time.monotonic()
                if follower.last_id > before:
                    pause, down_since = 0.05, None
                elif down_since is None:
                    down_since = now
                elif now - down_since > GIVE_UP_SECONDS:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        except Exception as unexpected:  # noqa: BLE001 - the reader must hear of it
            error = unexpected if isinstance(unexpected, AlChatError) else AlChatUnreachable()
        finally:
            follower._end(error)

    async def _once(self, follower: Follower, token_source: Callable[[], str]) -> bool:
        """One connection; True when the run has ended, False when the stream was cut."""
        token = follower._first_token
        follower._first_token = None
        if token is None:
            token = await asyncio.get_running_loop().run_in_executor(None, token_source)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=5.0, sock_read=SILENCE_SECONDS
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        if follower.last_id:
            headers["Last-Event-ID"] = str(follower.last_id)
        async with self._session.get(
            f"{self._base_url}/api/runs/{follower.run_id}/events",
            headers=headers,
            allow_redirects=False,
        ) as response:
            if response.status == 204:
                return True
            if response.status != 200:
                raw = await response.content.read(65_536)
                body = _loads(raw)
                raise _problem(response.status, body, response.headers.get("Retry-After"))
            follower._connected = True
            rest = b""
            async for chunk in response.content.iter_any():
                frames = (rest + chunk).split(b"\n\n")
                rest = frames.pop()
                events = [event for frame in frames if (event := _event(frame)) is not None]
                if not events:
                    continue
                if not follower._put(events):
                    await self._wait_for_room(follower)
                if events[-1].terminal:
                    return True
        return False

    async def _wait_for_room(self, follower: Follower) -> None:
        room = follower._room
        assert room is not None  # noqa: S101 - made before the task
        room.clear()
        # The reader may have emptied the queue just before the flag was cleared.
        while len(follower._waiting) >= MAX_WAITING_EVENTS // 2:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await room.wait()


def _cancel(follower: Follower) -> None:
    if follower._task is not None:
        follower._task.cancel()


def _event(frame: bytes) -> Event | None:
    number, kind, data = 0, "", b""
    for line in frame.split(b"\n"):
        if line.startswith(b"data: "):
            data = line[6:]
        elif line.startswith(b"event: "):
            kind = line[7:].decode()
        elif line.startswith(b"id: "):
            number = int(line[4:])
    return Event(number, kind, json.loads(data)) if kind else None


def _object(response: requests.Response) -> dict[str, Any]:
    return _loads(response.content)


def _loads(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _problem(status: int, body: Mapping[str, Any], retry_after: str | None) -> AlChatProblem:
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 else AlChatProblem)
    return kind(
        status,
        str(body.get("code", "unknown")),
        str(body.get("detail", "AL-Chat gave an answer that cannot be understood.")),
        int(retry_after) if retry_after and retry_after.isdigit() else None,
    )


def _chosen(model: str | None, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    given = {"model": model, "parameters": parameters}
    return {name: value for name, value in given.items() if value is not None}


def _id(value: str) -> str:
    """An id as a path segment; anything else could reach another route."""
    if not value or len(value) > 40 or not value.replace("_", "").isalnum():
        raise NotFound(404, "not-found", "There is no such thing here.", None)
    return value


def _time(value: str) -> datetime:
    return datetime.fromisoformat(value)


def _conversation(item: Mapping[str, Any]) -> Conversation:
    return Conversation(
        id=item["id"],
        title=item["title"],
        model=item.get("model"),
        pinned=item["pinned"],
        archived=item["archived"],
        created_at=_time(item["createdAt"]),
        updated_at=_time(item["updatedAt"]),
        last_message_at=_time(item["lastMessageAt"]),
        active_run_id=item["activeRunId"],
    )


def _failure(item: Mapping[str, Any] | None) -> RunFailure | None:
    if item is None:
        return None
    return RunFailure(item["code"], item["message"], item["retryable"], item.get("retryAfter"))


def _message(item: Mapping[str, Any]) -> Message:
    run = item["run"]
    return Message(
        id=item["id"],
        conversation_id=item["conversationId"],
        parent_id=item["parentId"],
        role=item["role"],
        content=item["content"],
        model=item["model"],
        created_at=_time(item["createdAt"]),
        run=MessageRun(run["id"], run["state"]) if run else None,
        error=_failure(item["error"]),
        usage=item["usage"],
        reasoning=item.get("reasoning"),
    )


def _run(item: Mapping[str, Any]) -> Run:
    finished = item["finishedAt"]
    return Run(
        id=item["id"],
        conversation_id=item["conversationId"],
        message_id=item["messageId"],
        user_message_id=item["userMessageId"],
        state=item["state"],
        model=item["model"],
        created_at=_time(item["createdAt"]),
        finished_at=_time(finished) if finished else None,
        last_event=item["lastEvent"],
        error=_failure(item["error"]),
        credential_id=item.get("credentialId"),
        credential_type=item.get("credentialType"),
        parameters=item.get("parameters"),
    )
