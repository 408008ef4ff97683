"""The requests of every answer, and of every new conversation, on a short way.

`Lane` calls the routes that begin a conversation, send a message and follow its run before FastAPI
looks for one and goes through dependencies and parameters, which takes longer than all the rest of
such a request. Whatever is not plainly one of the three takes the described way, and gets the same
answers there.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alchat_core.api import problems
from alchat_core.api.deps import Services
from alchat_core.api.routes.conversations import create_conversation, send_message
from alchat_core.api.routes.runs import follow_run
from alchat_core.api.schemas import NewConversation, NewMessage
from alchat_core.auth import User

_CONVERSATIONS = "/api/conversations"
_MESSAGES = re.compile(r"/api/conversations/([A-Za-z0-9_]{1,40})/messages")
_EVENTS = re.compile(r"/api/runs/([A-Za-z0-9_]{1,40})/events")
_AFTER = re.compile(rb"(?:after=([0-9]{1,9}))?")
_KEY = re.compile(rb"[!-~]{1,200}")
_NUMBER = re.compile(rb"[0-9]{1,20}")

Call = Callable[[Services, User], Awaitable[Response]]
Given = TypeVar("Given", bound=BaseModel)


class _Route(NamedTuple):
    """What logs and traces call a request."""

    path: str


_CREATES = _Route(_CONVERSATIONS)
_SENDS = _Route("/api/conversations/{conversation_id}/messages")
_FOLLOWS = _Route("/api/runs/{run_id}/events")


class Lane:
    """Middleware of the API, inside all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive)
        request = Request(scope)
        try:
            response = await _answer(request, body)
        except problems.EXPECTED as error:
            response = await problems.of(request, error)
        await (response or self._app)(scope, body.again if body.begun else receive, send)


async def _answer(request: Request, body: _Body) -> Response | None:
    """None for what takes the described way. Raises what routes do."""
    call: Call | None = None
    if request.method == "POST" and request.scope["path"] == _CONVERSATIONS:
        call = await _creating(request.scope, body)
    elif request.method == "POST" and (found := _MESSAGES.fullmatch(request.scope["path"])):
        call = await _sending(request.scope, found[1], body)
    elif request.method == "GET" and (found := _EVENTS.fullmatch(request.scope["path"])):
        call = _following(request.scope, found[1])
    if call is None:
        return None
    services: Services = request.app.state.services
    user = await services.verifier.verify(request.headers.get("authorization"))
    return await call(services, user)


class _Body:
    """The body of a request, which can be received a second time."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []
        self.begun = False

    async def read(self) -> bytes | None:
        """All of it, None if the client has gone before its end."""
        self.begun = True
        while True:
            message = await self._receive()
            self._messages.append(message)
            if message["type"] != "http.request":
                return None
            if not message.get("more_body"):
                return b"".join([one.get("body", b"") for one in self._messages])

    async def again(self) -> Message:
        return self._messages.pop(0) if self._messages else await self._receive()


async def _creating(scope: Scope, body: _Body) -> Call | None:
    conversation = await _given(NewConversation, scope, dict(scope["headers"]), body)
    if conversation is None:
        return None
    scope["route"] = _CREATES
    return lambda services, user: create_conversation(user, services, conversation)


async def _sending(scope: Scope, conversation_id: str, body: _Body) -> Call | None:
    headers = dict(scope["headers"])
    key = headers.get(b"idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        return None
    message = await _given(NewMessage, scope, headers, body)
    if message is None:
        return None
    scope["route"] = _SENDS
    named = None if key is None else key.decode("ascii")
    return lambda services, user: send_message(conversation_id, message, user, services, named)


async def _given(
    kind: type[Given], scope: Scope, headers: dict[bytes, bytes], body: _Body
) -> Given | None:
    """What the body says, if it is plainly one of that kind and nothing else is asked for."""
    if scope["query_string"] or len(headers) != len(scope["headers"]):
        return None
    if headers.get(b"content-type") != b"application/json":
        return None
    raw = await body.read()
    if raw is None:
        return None
    try:
        return kind.model_validate(orjson.loads(raw))
    except (orjson.JSONDecodeError, ValidationError):
        return None


def _following(scope: Scope, run_id: str) -> Call | None:
    headers = dict(scope["headers"])
    query = _AFTER.fullmatch(scope["query_string"])
    if query is None or len(headers) != len(scope["headers"]):
        return None
    last = headers.get(b"last-event-id")
    if last is not None and not _NUMBER.fullmatch(last):
        return None
    after = int(query[1] or 0)
    seen = None if last is None else last.decode("ascii")
    scope["route"] = _FOLLOWS
    return lambda services, user: follow_run(run_id, user, services, after, seen)
