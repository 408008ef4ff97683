"""Traces by the SDK of OpenTelemetry, sent by OTLP over HTTP; the only importer of either.

Where they go, how many are kept and what they are called is set by OpenTelemetry's own variables.
The SDK's global tracer stays unset, so that no library adds spans or passes a trace on.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as Inner
from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from alchat_core.errors import RunError
from alchat_core.telemetry import Kind, Span, Value

STOP_SECONDS = 2.0
_NAMES = (b"traceparent", b"tracestate")
_NOWHERE = Context()
_current: ContextVar[Context] = ContextVar("trace", default=_NOWHERE)


class Tracing:
    """Built once per process."""

    def __init__(self, version: str) -> None:
        named = "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        about = {"service.version": version}
        if not named and not os.environ.get("OTEL_SERVICE_NAME"):
            about["service.name"] = "al-chat"
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("alchat_core", version)
        self._propagator = TraceContextTextMapPropagator()

    def stop(self) -> None:
        # It may hang where the other side does.
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(STOP_SECONDS)

    def span(
        self, name: str, attributes: Mapping[str, Value | None], kind: Kind, current: bool
    ) -> Span:
        inner = self._tracer.start_span(
            name,
            _current.get(),
            SpanKind[kind.upper()],
            {name: value for name, value in attributes.items() if value is not None},
        )
        return _Active(inner, current)

    def accept(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        given = {
            name.decode(): value.decode("latin-1") for name, value in headers if name in _NAMES
        }
        _current.set(self._propagator.extract(given, _NOWHERE) if given else _NOWHERE)

    def passed_on(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        if get_current_span(_current.get()).is_recording():
            self._propagator.inject(found, _current.get())
        return found


class _Active(Span):
    __slots__ = ("_inner", "_token", "_use")

    def __init__(self, inner: Inner, use: bool) -> None:
        self._inner = inner
        self._use = use
        self._token: Token[Context] | None = None

    def add(self, name: str, value: Value | None) -> None:
        if value is not None:
            self._inner.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self._inner.update_name(name)

    def fail(self, code: str) -> None:
        self._inner.set_attribute("error.type", code)
        self._inner.set_status(Status(StatusCode.ERROR))

    def __enter__(self) -> _Active:
        if self._use:
            self._token = _current.set(set_span_in_context(self._inner, _NOWHERE))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
        # What an exception says may quote a user.
        if isinstance(error, RunError):
            self.fail(error.code)
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._inner.set_attribute("alchat.cancelled", True)
        elif error is not None:
            self.fail(type(error).__name__)
        self._inner.end()
