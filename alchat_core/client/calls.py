"""What all calls of a user share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from alchat_core.client.errors import NotFound

if TYPE_CHECKING:
    from alchat_core.client.service import AlChatClient


class Keep(Enum):
    """The default of a field that None would take away."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


class Calls:
    """Calls on behalf of the user whose token `token_source` returns."""

    def __init__(self, client: AlChatClient, token_source: Callable[[], str]) -> None:
        self._client = client
        self._token_source = token_source

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        return self._client.call(method, path, self._token_source(), **more)

    def _send_file(self, path: str, **more: Any) -> dict[str, Any]:
        return self._client.send_file("POST", path, self._token_source(), **more)


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None, named as on the wire."""
    return {_wire(name): value for name, value in fields.items() if value is not None}


def changed(**fields: Any) -> dict[str, Any]:
    """The fields that are not `KEEP`, None among them."""
    return {_wire(name): value for name, value in fields.items() if value is not KEEP}


def chosen(parameters: Mapping[str, Any] | Keep | None) -> dict[str, Any] | Keep | None:
    """Parameters in a form that JSON takes."""
    return parameters if parameters is None or isinstance(parameters, Keep) else dict(parameters)


def segment(value: str) -> str:
    """An id as a path segment; anything else could reach another route."""
    if not value or len(value) > 40 or not value.replace("_", "").isalnum():
        raise NotFound(404, "not-found", "There is no such thing here.", None)
    return value


def _wire(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
