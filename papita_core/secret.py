"""A string that does not show itself.

Whoever needs the value says so by calling `reveal`; printing, formatting, logging or comparing
the object by accident gives nothing away.
"""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """Holds one secret string; `repr` and `str` are a mask, pickling is refused."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The value itself."""
        return self.__value

    def matches(self, other: str) -> bool:
        """Whether `other` is the same string, compared in constant time."""
        return hmac.compare_digest(self.__value.encode(), other.encode())

    def __repr__(self) -> str:
        return "Secret('••••')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
