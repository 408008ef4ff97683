"""`python -m benchmarks [ttft] [streams] [browser] [resolve]`: measures and prints a table.

Without a name all parts run. Results go to benchmarks/results/<part>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.system import ROOT, System, SystemFailed, User, running

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


def load(job: dict[str, Any], module: str = "benchmarks.load") -> Any:
    """Runs a job in a process of its own. Raises SystemFailed."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemFailed(done.stderr.strip()[-1500:])
    return json.loads(done.stdout)


def addresses(system: System) -> dict[str, str]:
    return {
        "portal": system.portal_url.replace("localhost", "127.0.0.1"),
        "alchat": system.alchat_url,
        "provider": system.provider_url,
    }


def add_users(system: System, count: int, prefix: str) -> list[User]:
    return [system.add_user(f"{prefix}{number}") for number in range(count)]


def ttft() -> Part:
    with running() as system:
        (user,) = add_users(system, 1, "first")
        found = load(
            {
                "job": "ttft",
                "count": 200,
                "warmUp": 10,
                "tokens": [system.user_token(user)],
                **addresses(system),
            }
        )
    return Part(
        found,
        [
            Row("added time to first token, p50 of 200", found["addedP50Ms"], "ms", 12),
            Row("added time to first token, p95 of 200", found["addedP95Ms"], "ms"),
            Row("  the provider by itself, p50", found["directP50Ms"], "ms"),
        ],
    )


def streams() -> Part:
    found: dict[str, Any] = {}
    rows = []
    with running() as system:
        users = add_users(system, 10, "stream")
        job = {"job": "streams", "tokensEach": 200, "intervalMs": 10, **addresses(system)}
        tokens = [system.user_token(user) for user in users]
        load({**job, "tokens": tokens, "streams": 10, "through": "alchat"})
        for count, limit in ((50, 1.15), (100, 1.4)):
            tokens = [system.user_token(user) for user in users]
            plain = load({**job, "tokens": tokens, "streams": count, "through": "provider"})
            takes = []
            for _ in range(3):
                before = system.cpu_seconds()
                take = load({**job, "tokens": tokens, "streams": count, "through": "alchat"})
                after = system.cpu_seconds()
                take["cpuS"] = {name: round(after[name] - before[name], 3) for name in after}
                takes.append(take)
            middle = sorted(takes, key=lambda take: take["stretch"])[1]
            found[str(count)] = {"alchat": takes, "provider": plain}
            rows += [
                Row(f"{count} streams: stretch (median of 3)", middle["stretch"], "x", limit),
                Row(f"{count} streams: first token p95", middle["firstTokenP95Ms"], "ms"),
                Row("  the provider by itself: stretch", plain["stretch"], "x"),
            ]
    return Part(found, rows)


_ANSWERS = ((1000, 5, 1.05), (1000, 2, None), (2000, 2, None), (4000, 2, None), (8000, 2, None))


def in_browser() -> Part:
    found: dict[str, Any] = {"answers": []}
    rows = []
    with running() as system:
        (user,) = add_users(system, 1, "reader")
        system.user_token(user)
        for words, ms, limit in (
            (1000, 5, 1.05),
            (4000, 2, None),
            (2000, 2, None),
            (8000, 2, None),
        ):
            system.stop("alchat")
            system.start_alchat(ALCHAT_DEFAULT_MODEL=f"stream-{words}-{ms}")
            takes = load(
                {
                    "portal_url": system.portal_url,
                    "alchat_url": system.alchat_url,
                    "provider_url": system.provider_url,
                    "folder": str(system.folder),
                    "user": asdict(user),
                    "words": words,
                    "ms": ms,
                    "runs": 3 if words <= 4000 else 1,
                },
                "benchmarks.browser",
            )
            found["answers"] += takes
            stretch = statistics.median(take["stretch"] for take in takes)
            size = statistics.median(take["bytes"] for take in takes)
            first = statistics.median(take["firstWordMs"] for take in takes)
            name = f"{words} words at {ms} ms"
            rows += [
                Row(f"{name}: stretch in the browser", stretch, "x", limit),
                Row(f"{name}: Enter to first word", first, "ms"),
                Row(f"{name}: to the browser", size / 1e6, "MB", 0.3 if words == 4000 else None),
            ]
    sizes = {t["words"]: t["bytes"] for t in found["answers"] if t["intervalMs"] == 2}
    growth = (sizes[8000] - sizes[4000]) / (sizes[4000] - sizes[2000])
    found["growth"] = growth
    rows.append(Row("  growth 4000→8000 over 2000→4000 (2 linear, 4 square)", growth, "x", 2.6))
    return Part(found, rows)


def resolve() -> Part:
    with running() as system:
        users = add_users(system, 16, "borrower")
        job = {
            "job": "resolve",
            "seconds": 6,
            "users": [user.name for user in users],
            "tokens": [system.user_token(user) for user in users],
            "client": list(system.client_credentials()),
            **addresses(system),
        }
        before = system.audit_rows()
        found = load(job)
        rows = system.audit_rows() - before
    found["auditRows"] = rows
    if rows < found["readsInAll"]:
        raise SystemFailed(f"{found['readsInAll']} reads left {rows} rows in the audit log")
    return Part(
        found,
        [
            Row("reads of a credential, 16 clients", found["perSecond"], "/s", 500, at_least=True),
            Row("  p50", found["p50Ms"], "ms"),
            Row("  p99", found["p99Ms"], "ms"),
            Row("  audit rows for each read", rows / found["readsInAll"], "x"),
        ],
    )


PARTS: dict[str, Callable[[], Part]] = {
    "ttft": ttft,
    "streams": streams,
    "browser": in_browser,
    "resolve": resolve,
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
        except SystemFailed as error:
            print(f"benchmarks: {name}: {error}", file=sys.stderr)
            return 1
        for row in part.rows:
            shown = f"{row.value:.2f}" if row.value < 10 else f"{row.value:.0f}"
            print(
                f"{row.figure:<56}{shown:>9} {row.unit:<3}{row.wanted:>8}  {row.mark}", flush=True
            )
        result = rounded({"machine": machine, **part.found})
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
