"""What a call can raise, and the error that a refusal stands for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

UNREACHABLE: Final = "AL-Chat cannot be reached at the moment. Try again shortly."


class AlChatError(Exception):
    """Base of this package's errors; `str()` is a sentence that a user may read."""


class AlChatUnreachable(AlChatError):
    def __init__(self) -> None:
        super().__init__(UNREACHABLE)


class AlChatProblem(AlChatError):
    """`retry_after` is in seconds; `more` is what else the service says of it."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_after: int | None,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.more = more


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


_COMMON = frozenset({"type", "title", "status", "code", "detail"})
_BY_STATUS = {401: NotSignedIn, 404: NotFound, 409: Conflict, 422: Invalid, 429: TooMany}


def problem_of(status: int, body: Mapping[str, Any], retry_after: str | None) -> AlChatProblem:
    """`body` is the problem that came with `status`, `retry_after` the header of that name."""
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 else AlChatProblem)
    return kind(
        status,
        str(body.get("code", "unknown")),
        str(body.get("detail", "AL-Chat gave an answer that cannot be understood.")),
        int(retry_after) if retry_after and retry_after.isdigit() else None,
        {name: value for name, value in body.items() if name not in _COMMON},
    )
