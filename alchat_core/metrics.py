"""What `GET /metrics` tells, in Prometheus' text format; names and meanings are in docs/api.md.

Numbers of the process alone. No label holds a user, a conversation, a model's name or anything else
that somebody typed, and nothing is counted per token: gauges are read when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
_TO_FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ADDED = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_COMMIT = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
_PAPITA = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One registry; built once per process by `alchat_core.api.app`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._runs = Counter(
            "alchat_runs",
            "Answers that have ended, by their state and, of failed ones, their error code.",
            ("outcome", "code"),
            registry=self._registry,
        )
        self._titles = Counter(
            "alchat_titles",
            "Titles that a model was asked for, by how that ended.",
            ("outcome", "code"),
            registry=self._registry,
        )
        self._first_token = Histogram(
            "alchat_time_to_first_token_seconds",
            "From a message that was taken to the first text that a follower can see.",
            buckets=_TO_FIRST_TOKEN,
            registry=self._registry,
        )
        self._added = Histogram(
            "alchat_added_time_seconds",
            "The part of the time to first token that the provider did not take.",
            buckets=_ADDED,
            registry=self._registry,
        )
        self._commit = Histogram(
            "alchat_event_log_commit_seconds",
            "Commits of the event log; each holds what all answers produced meanwhile.",
            ("outcome",),
            buckets=_COMMIT,
            registry=self._registry,
        )
        self._papita = Histogram(
            "alchat_papita_request_seconds",
            "Requests to Papita: exchange of a token, loan of a key or of several at once, check of"
            " leases, public keys, report of usage.",
            ("request", "outcome"),
            buckets=_PAPITA,
            registry=self._registry,
        )

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """A number that `read` gives whenever the metrics are asked for."""
        Gauge(name, meaning, registry=self._registry).set_function(read)

    def run_ended(self, outcome: str, code: str) -> None:
        self._runs.labels(outcome, code).inc()

    def title_made(self, outcome: str, code: str) -> None:
        self._titles.labels(outcome, code).inc()

    def first_token(self, seconds: float, added: float) -> None:
        self._first_token.observe(seconds)
        self._added.observe(max(0.0, added))

    def committed(self, seconds: float, *, ok: bool) -> None:
        self._commit.labels("ok" if ok else "failed").observe(seconds)

    def asked_papita(self, path: str, outcome: str, seconds: float) -> None:
        """`outcome` is `ok`, `refused`, `failed` or `unreachable`."""
        self._papita.labels(_REQUESTS.get(path, "other"), outcome).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


_REQUESTS = {
    "/api/token": "exchange",
    "/api/credentials": "loan",
    "/api/loans": "loans",
    "/api/leases/check": "check",
    "/api/usage": "usage",
    "/api/erasures": "erasures",
    "/api/.well-known/jwks.json": "keys",
}
