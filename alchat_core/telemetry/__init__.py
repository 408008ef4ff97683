"""Traces for OpenTelemetry: requests, runs, loans, requests to providers and calls of tools, with
ids and figures, and never with what anybody wrote.

Off unless the environment names an OTLP endpoint, and then nothing of OpenTelemetry is imported.
Spans lie in a context of their own and not in that of OpenTelemetry, where libraries look for one
to pass on: a trace goes to Papita, and never to a provider or a tool server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

if TYPE_CHECKING:
    from alchat_core.telemetry.otlp import Tracing

Value = str | int | float | bool
Kind = Literal["internal", "client", "server"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_NONE: Final[Mapping[str, Value]] = {}


class TelemetryError(Exception):
    """Traces are wanted and cannot be made; the message is one line."""


class Span:
    """A part of a trace, from `with` to its end; this one is of nobody's interest.

    A `RunError` that leaves it marks it as failed with its code, any other exception with its type.
    """

    __slots__ = ()

    def add(self, name: str, value: Value | None) -> None:
        """One more attribute, unless it is None."""

    def rename(self, name: str) -> None:
        """Its name, where that is known only at its end."""

    def fail(self, code: str) -> None:
        """Marks it as failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


_NOTHING: Final = Span()
_tracing: Tracing | None = None


def wanted() -> bool:
    """Whether the environment asks for traces, in the names of OpenTelemetry."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    off = off or os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in ("", "otlp")
    return not off and any(os.environ.get(name) for name in _ENDPOINTS)


def start(version: str) -> None:
    """Begins to make traces, if they are wanted. Raises `TelemetryError`."""
    global _tracing
    if _tracing is not None or not wanted():
        return
    try:
        from alchat_core.telemetry.otlp import Tracing

        _tracing = Tracing(version)
    except ImportError:
        raise TelemetryError(
            "the packages opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http are missing;"
            " install them, or leave OTEL_EXPORTER_OTLP_ENDPOINT out"
        ) from None
    except Exception:  # noqa: BLE001 - whatever the SDK makes of its variables, answers go on
        raise TelemetryError(
            "OpenTelemetry cannot use its settings; look through the variables whose names begin"
            " with OTEL_"
        ) from None


def stop() -> None:
    """Sends what is left, within two seconds."""
    global _tracing
    if _tracing is not None:
        _tracing.stop()
        _tracing = None


def on() -> bool:
    return _tracing is not None


def span(
    name: str,
    attributes: Mapping[str, Value | None] = _NONE,
    *,
    kind: Kind = "internal",
    current: bool = True,
) -> Span:
    """A span below the current one, to be used with `with`; attributes of None are left out.

    `kind` is `client` for a request to somebody else, `server` for one of somebody else. `current`
    makes it the one under which what this task does next is put; a generator, which has no context
    of its own, must not.
    """
    return _NOTHING if _tracing is None else _tracing.span(name, attributes, kind, current)


def accept(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Puts what this task does under the trace that a request came with (W3C Trace Context)."""
    if _tracing is not None:
        _tracing.accept(headers)


def passed_on() -> Mapping[str, str]:
    """The headers that put what somebody else does under the current span."""
    return {} if _tracing is None else _tracing.passed_on()
