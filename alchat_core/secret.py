"""A string that prints as asterisks: it reaches no log, repr, traceback or pickle by accident."""

from __future__ import annotations

from typing import Any, NoReturn


class Secret:
    """`reveal()` is the one way to the value."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        return self.__value

    def __repr__(self) -> str:
        return "Secret('********')"

    __str__ = __repr__

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        raise TypeError("a secret cannot be pickled")
