"""`python -m benchmarks [part …]`: measures, prints a table.

The parts are ttft, streams, browser, page, sessions, resolve, rotate, history and identity; without
a name all of them run. Results go to benchmarks/results/<part>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Error as PlaywrightError

from benchmarks import browser, history, identity, page
from benchmarks.system import (
    ENGINES,
    QUIET,
    ROOT,
    Bench,
    BenchmarkFailed,
    running,
    wait_until_quiet,
)
from portal.navigation import PAGES

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One line of the table. `limit` is what is wanted, at most unless `at_least`."""

    figure: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False

    @property
    def wanted(self) -> str:
        if self.limit is None:
            return ""
        return f"{'≥' if self.at_least else '<'} {self.limit:g}"

    @property
    def mark(self) -> str:
        if self.limit is None:
            return ""
        good = self.value >= self.limit if self.at_least else self.value < self.limit
        return "ok" if good else "MISSED"


@dataclass(frozen=True)
class Part:
    """What a part found, in full, and the lines of the table that sum it up."""

    found: dict[str, Any]
    rows: list[Row]


def load(job: dict[str, Any], env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Runs a job of benchmarks.load in a process of its own, with `env` as its environment.

    Raises BenchmarkFailed.
    """
    busy = wait_until_quiet()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        cwd=ROOT,
        env=env,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkFailed(done.stderr.strip()[-1500:])
    return {**json.loads(done.stdout), "busyBefore": busy}


def busiest(found: Any) -> float:
    """The highest `busyBefore` anywhere in a result."""
    if isinstance(found, dict):
        own = float(found.get("busyBefore", 0.0))
        return max([own, *(busiest(each) for each in found.values())])
    return max((busiest(each) for each in found), default=0.0) if isinstance(found, list) else 0.0


def ttft() -> Part:
    found: dict[str, Any] = {}
    rows = []
    for engine in ENGINES:
        with running(engine) as system:
            tokens = system.user_tokens(system.add_users("first", 1))
            job = {"job": "ttft", "count": 200, "warmUp": 10, "tokens": tokens}
            taken = found[engine] = load({**job, **system.addresses()})
        rows += [
            Row(f"{engine}: added time to first token, p50", taken["addedP50Ms"], "ms", 10),
            Row(f"{engine}: added time to first token, p95", taken["addedP95Ms"], "ms", 25),
            Row("  the provider by itself, p50", taken["directP50Ms"], "ms"),
        ]
    return Part(found, rows)


# Streams at once, takes, wanted stretch, wanted p95 of the time to first token in ms.
_CROWDS = ((50, 5, 1.08, None), (100, 5, 1.25, 250), (200, 1, None, None))


def streams() -> Part:
    found: dict[str, Any] = {}
    rows = []
    for engine in ENGINES:
        with running(engine) as system:
            users = system.add_users("stream", 20)
            job = {"job": "streams", "tokensEach": 200, "intervalMs": 10, **system.addresses()}
            load({**job, "tokens": system.user_tokens(users), "streams": 10, "through": "alchat"})
            for count, takes, stretch, first in _CROWDS:
                job.update(tokens=system.user_tokens(users), streams=count)
                plain = load({**job, "through": "provider"})
                through = {**job, "through": "alchat"}
                taken = [_counted(system, through, "alchat") for _ in range(takes)]
                found[f"{engine}-{count}"] = {"alchat": taken, "provider": plain}
                middle = _middle(taken, lambda take: float(take["stretch"]))
                name = f"{engine}, {count} streams"
                rows += [
                    Row(f"{name}: stretch", middle["stretch"], "x", stretch),
                    Row("  first token p95", middle["firstTokenP95Ms"], "ms", first),
                    Row("  the provider by itself: stretch", plain["stretch"], "x"),
                    Row("  the same: first token p95", plain["firstTokenP95Ms"], "ms"),
                    Row("  AL-Chat's peak memory", taken[-1]["peakMb"], "MB", first and 200),
                ]
    return Part(found, rows)


def _middle(
    takes: list[dict[str, Any]], stretch: Callable[[dict[str, Any]], float]
) -> dict[str, Any]:
    """The take with the median stretch."""
    return sorted(takes, key=stretch)[len(takes) // 2]


def _counted(system: Bench, job: dict[str, Any], process: str) -> dict[str, Any]:
    """What the job takes of each process's time, and the most memory of this one so far."""
    before = system.cpu_seconds()
    take = load(job)
    after = system.cpu_seconds()
    take["cpuS"] = {name: after[name] - before[name] for name in after}
    take["peakMb"] = system.peak_memory_mb(process)
    return take


# Words, milliseconds between them, repetitions, wanted stretch.
_ANSWERS = (
    (1000, 5, 3, 1.05),
    (1000, 2, 1, None),
    (2000, 2, 1, None),
    (4000, 2, 3, None),
    (8000, 2, 1, None),
)


def in_browser() -> Part:
    rows = []
    with running() as system:
        (user,) = system.add_users("reader", 1)
        taken = browser.answers(system, user.name, [plan[:3] for plan in _ANSWERS])
    for words, ms, _, limit in _ANSWERS:
        takes = [take for take in taken if (take["words"], take["intervalMs"]) == (words, ms)]
        stretch, size, first = (
            statistics.median(take[name] for take in takes)
            for name in ("stretch", "bytes", "firstWordMs")
        )
        name = f"{words} words at {ms} ms"
        rows += [
            Row(f"{name}: stretch in the browser", stretch, "x", limit),
            Row(f"{name}: Enter to first word", first, "ms"),
            Row(f"{name}: to the browser", size / 1e6, "MB", 0.3 if words == 4000 else None),
        ]
    sizes = {take["words"]: take["bytes"] for take in taken if take["intervalMs"] == 2}
    growth = (sizes[8000] - sizes[4000]) / (sizes[4000] - sizes[2000])
    rows.append(Row("  4000 to 8000 words over 2000 to 4000: line 2, square 4", growth, "x", 2.5))
    return Part({"answers": taken, "growth": growth}, rows)


def pages() -> Part:
    with running() as system:
        (user,) = system.add_users("reader", 1)
        (token,) = system.user_tokens([user])
        job = {"job": "ttft", "count": 40, "warmUp": 5, "tokens": [token], **system.addresses()}
        plain = load(job)["directP50Ms"]
        (cookie,) = system.session_cookies([user])
        conversation, last = page.write_long(system, user)
        with browser.chromium() as chromium:
            found = page.measure(chromium, system, cookie, conversation, last)
    found["providerMs"] = plain
    ready, first, long = found["ready"], found["firstToken"], found["long"]
    middle = statistics.median
    over = {name: middle(ready[name]) / middle(bare) for name, bare in found["bare"].items()}
    added = middle(first["firstMs"]) - plain
    return Part(
        found,
        [
            Row("chat page ready, nothing cached", middle(ready["cold"]), "ms", 1700),
            Row("  over a page with nothing but an input", over["cold"], "x"),
            Row("  in another tab", middle(ready["newTab"]), "ms"),
            Row("  over a page with nothing but an input", over["newTab"], "x"),
            Row("  reload", middle(ready["reload"]), "ms", 500),
            Row("  over a page with nothing but an input", over["reload"], "x"),
            Row("  switch from another page or to one", middle(ready["switch"]), "ms", 200),
            Row("Enter to first word, without the provider", added, "ms", 110),
            Row("1000 words at 5 ms: longest frame", middle(first["gapMs"]), "ms", 150),
            Row("2,000 messages: open", middle(long["openMs"]), "ms", 1200),
            Row("  to the browser", middle(long["openBytes"]) / 1e3, "kB"),
            Row("  a thumb", middle(long["thumbMs"]), "ms", 150),
            Row("  a thumb, to the browser", middle(long["thumbBytes"]) / 1e3, "kB", 30),
        ],
    )


# So many at once are wanted. If these stay below MOST_STRETCH, more are tried until it is too many,
# else fewer until it is not.
_SESSIONS = 100
_MORE, _FEWER = (150, 200, 250, 300), (80, 60, 50, 40, 30, 20)
MOST_STRETCH = 1.25


def chat_sessions() -> Part:
    """The most at once that take less than a quarter longer than the provider does."""
    found: dict[str, Any] = {}
    rows, stretch = _sessions(_SESSIONS, found, wanted=True)
    most = _SESSIONS if stretch < MOST_STRETCH else 0
    for count in _MORE if most else _FEWER:
        more, stretch = _sessions(count, found)
        rows += more
        holds = stretch < MOST_STRETCH
        if holds:
            most = count
        if holds != (count > _SESSIONS):
            break
    rows.append(Row(f"most sessions with a stretch below {MOST_STRETCH}", most, ""))
    return Part(found, rows)


def _sessions(
    count: int, found: dict[str, Any], *, wanted: bool = False
) -> tuple[list[Row], float]:
    """So many at once: their rows, and the stretch. What was taken goes into `found`."""
    takes = 3 if wanted else 1
    with running(ALCHAT_DEFAULT_MODEL="stream-200-50") as system:
        users = system.add_users("session", 20)
        job = {
            "job": "sessions",
            "url": system.url,
            "cookieName": "papita_session",
            "cookies": system.session_cookies(users),
            "tokensEach": 200,
            "intervalMs": 50,
        }
        load({**job, "count": 5})
        all_taken = [_counted(system, {**job, "count": count}, "portal") for _ in range(takes)]
    found[str(count)] = all_taken
    taken = _middle(all_taken, _stretch)
    stretch = _stretch(taken)
    first = statistics.quantiles(taken["firstMs"], n=20, method="inclusive")[-1]
    rows = [
        Row(f"{count} chat sessions: stretch", stretch, "x", 1.05 if wanted else None),
        Row("  first word p95", first, "ms", 1500 if wanted else None),
        Row(
            "  the portal's peak memory",
            all_taken[-1]["peakMb"],
            "MB",
            300 if wanted else None,
        ),
        Row("  to each browser", taken["bytesEach"] / 1e3, "kB"),
    ]
    return rows, stretch


def _stretch(taken: dict[str, Any]) -> float:
    return float(statistics.median(taken["endS"]) / taken["idealS"])


def resolve() -> Part:
    found: dict[str, Any] = {}
    rows = []
    for engine in ENGINES:
        with running(engine) as system:
            users = system.add_users("borrower", 16)
            job = {"job": "resolve", "seconds": 6, **_as_alchat(system)}
            for clients in (1, 16):
                some = system.borrowers(users[:clients])
                taken = found[f"{engine}-{clients}"] = {
                    "loans": _loans(system, {**job, "users": some}),
                    "metadata": load({**job, "users": some, "what": "metadata"}),
                }
                rows += _reads(engine, clients, taken)
    return Part(found, rows)


def _loans(system: Bench, job: dict[str, Any]) -> dict[str, Any]:
    """Measures loans; each has to be in the audit log."""
    before, cpu = system.audit_rows(), system.cpu_seconds()["portal"]
    taken = load({**job, "what": "loans"})
    taken["portalCpuS"] = system.cpu_seconds()["portal"] - cpu
    taken["auditRows"] = system.audit_rows() - before
    if taken["auditRows"] < taken["readsInAll"]:
        raise BenchmarkFailed(
            f"{taken['readsInAll']} reads left {taken['auditRows']} rows in the audit log"
        )
    return taken


def _reads(engine: str, clients: int, taken: dict[str, Any]) -> list[Row]:
    loans, metadata = taken["loans"], taken["metadata"]
    name, many = f"{engine}, {clients} client{'s' * (clients > 1)}", clients > 1
    return [
        Row(f"loans, {name}", loans["perSecond"], "/s", 500 if many else None, at_least=True),
        Row("  p50", loans["p50Ms"], "ms"),
        Row("  p99", loans["p99Ms"], "ms", 60 if many else None),
        Row("  metadata alone", metadata["perSecond"], "/s"),
        Row("  metadata alone: p50", metadata["p50Ms"], "ms"),
        Row("  metadata alone: p99", metadata["p99Ms"], "ms"),
    ]


def _as_alchat(system: Bench) -> dict[str, Any]:
    return {"client": list(system.client_credentials()), **system.addresses()}


STORED = 10_000


def rotate() -> Part:
    found: dict[str, Any] = {}
    rows = []
    for engine in ENGINES:
        with running(engine, PAPITA_RESOLVE_LIMIT="1000000/minute") as system:
            users = system.add_users("borrower", 8)
            system.store(STORED - len(users))
            job = {
                "job": "rotate",
                "seconds": 5,
                "users": system.borrowers(users),
                "command": [sys.executable, "-m", "papita_core", "keys", "rotate"],
                **_as_alchat(system),
            }
            before, old = system.audit_rows(), system.root_keys()
            taken = found[engine] = load(job, env=system.env)
            taken["auditRows"] = system.audit_rows() - before
            left = {kid: count for kid, count in system.root_keys().items() if kid in old}
        if left or taken["auditRows"] < taken["readsInAll"]:
            raise BenchmarkFailed(f"{left} rows are left under the old root key")
        rows += [
            Row(f"rotation of {STORED} credentials, {engine}", taken["rotationS"], "s"),
            Row("  rows", STORED / taken["rotationS"], "/s"),
            Row("  loans before, 8 clients", taken["before"]["perSecond"], "/s"),
            Row("  loans meanwhile", taken["during"]["perSecond"], "/s"),
            Row("  loans before: p99", taken["before"]["p99Ms"], "ms"),
            Row("  loans meanwhile: p99", taken["during"]["p99Ms"], "ms"),
            Row("  loans that failed", 0, "", 1),
        ]
    return Part(found, rows)


def read_history() -> Part:
    found: dict[str, Any] = {}
    rows = []
    for engine in ENGINES:
        with running(engine) as system:
            (token,) = system.user_tokens(system.add_users("historian", 1))
            job = {
                "job": "history",
                "count": 100,
                "warmUp": 5,
                "token": token,
                "paths": history.paths(
                    history.fill(system.alchat_database(), history.owner_of(token))
                ),
                **system.addresses(),
            }
            taken = found[engine] = load(job)
        rows += [
            Row(f"{engine}: {name}, p95", each["p95Ms"], "ms", 30 if "page" in name else 50)
            for name, each in taken.items()
            if isinstance(each, dict)
        ]
    return Part(found, rows)


FEW, MANY = 10, 10_000
MOST_GROWTH = 1.2


def many_users() -> Part:
    """Nothing that one user does may cost more for there being others."""
    found: dict[str, Any] = {}
    rows = []
    for engine in ENGINES:
        with running(engine) as few, running(engine) as many:
            job = {
                "job": "identity",
                "count": 15,
                "pages": [entry.path for entry in PAGES],
                "systems": {
                    str(count): {"url": system.url, "cookie": identity.fill(system, count)}
                    for system, count in ((few, FEW), (many, MANY))
                },
            }
            taken = found[engine] = load(job)
        for entry in (identity.SIGN_IN, *(entry.path for entry in PAGES)):
            times = taken[entry]
            growth = times[str(MANY)] / times[str(FEW)]
            name = f"{engine}, {entry or 'dashboard'}: {MANY} users over {FEW}"
            rows.append(Row(name, growth, "x", MOST_GROWTH))
    return Part(found, rows)


PARTS: dict[str, Callable[[], Part]] = {
    "ttft": ttft,
    "streams": streams,
    "browser": in_browser,
    "page": pages,
    "sessions": chat_sessions,
    "resolve": resolve,
    "rotate": rotate,
    "history": read_history,
    "identity": many_users,
}


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    names = parser.parse_args(arguments).parts or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}")
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    print(f"{machine['cores']} cores, Python {machine['python']}; everything on one machine\n")
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        try:
            part = PARTS[name]()
        except (BenchmarkFailed, AssertionError, PlaywrightError) as error:
            print(f"benchmarks: {name}: {error}", file=sys.stderr)
            return 1
        for row in part.rows:
            shown = f"{row.value:.2f}" if row.value < 10 else f"{row.value:.0f}"
            print(
                f"{row.figure:<56}{shown:>9} {row.unit:<3}{row.wanted:>8}  {row.mark}", flush=True
            )
        if (busy := busiest(part.found)) > QUIET:
            print(
                f"  others kept this machine {busy:.0%} busy meanwhile: measure again", flush=True
            )
        result = rounded({"machine": machine, **part.found})
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
