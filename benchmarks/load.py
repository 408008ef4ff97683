"""The load client, a process of its own: `python -m benchmarks.load` reads a job, prints a result.

Both are one JSON object on standard input and output, so that no token is on a command line. Bodies
of streams are kept as they come and read only after the clock has stopped.
"""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import uvloop

from benchmarks import identity, sessions
from benchmarks.tab import SessionFailed
from demo.provider.scripts import script_for

KEY = "sk-demo-direct-baseline"
FIRST_TOKEN = b'"delta":{"content":'
FIRST_EVENT = b"event: text.delta"


class LoadFailed(Exception):
    """An answer that is not the one that was asked for; the message says which."""


@dataclass(frozen=True)
class Streamed:
    """When the first token came, when the stream ended (seconds from the send), and its text."""

    first: float
    end: float
    text: str


def percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    if len(ordered) < 2:
        return ordered[0]
    return statistics.quantiles(ordered, n=100, method="inclusive")[percent - 1]


async def direct(http: aiohttp.ClientSession, provider: str, model: str) -> Streamed:
    """One answer straight from the provider."""
    begin = time.perf_counter()
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Go on."}]}
    async with http.post(
        f"{provider}/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}
    ) as answer:
        _expect(answer, 200)
        first, raw = await _read(answer, FIRST_TOKEN, begin)
    end = time.perf_counter() - begin
    frames = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: {")]
    deltas = [frame["choices"][0]["delta"] for frame in map(orjson.loads, frames)]
    return Streamed(first, end, "".join(delta.get("content", "") for delta in deltas))


async def through_alchat(
    http: aiohttp.ClientSession, alchat: str, token: str, conversation: str, model: str
) -> Streamed:
    """One answer through AL-Chat: the message, then the events of its run."""
    headers = {"Authorization": f"Bearer {token}"}
    begin = time.perf_counter()
    async with http.post(
        f"{alchat}/api/conversations/{conversation}/messages",
        json={"content": "Go on.", "model": model},
        headers=headers,
    ) as answer:
        _expect(answer, 202)
        run = orjson.loads(await answer.read())["runId"]
    async with http.get(f"{alchat}/api/runs/{run}/events", headers=headers) as answer:
        _expect(answer, 200)
        first, raw = await _read(answer, FIRST_EVENT, begin)
    end = time.perf_counter() - begin
    text, last = [], ""
    for event in raw.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line[1:])
        last = fields.get(b"event", last.encode()).decode()
        if last == "text.delta" and b"data" in fields:
            text.append(orjson.loads(fields[b"data"])["text"])
    if last != "run.completed":
        raise LoadFailed(f"a run ended with {last or 'nothing'}: {raw[-300:].decode()}")
    return Streamed(first, end, "".join(text))


async def _read(answer: aiohttp.ClientResponse, mark: bytes, begin: float) -> tuple[float, bytes]:
    parts: list[bytes] = []
    first = 0.0
    async for part in answer.content.iter_any():
        parts.append(part)
        if not first and mark in part:
            first = time.perf_counter() - begin
    return first or time.perf_counter() - begin, b"".join(parts)


def _expect(answer: aiohttp.ClientResponse, status: int) -> None:
    if answer.status != status:
        raise LoadFailed(f"{answer.method} {answer.url.path}: {answer.status}")


async def conversation(http: aiohttp.ClientSession, alchat: str, token: str) -> str:
    async with http.post(
        f"{alchat}/api/conversations", json={}, headers={"Authorization": f"Bearer {token}"}
    ) as answer:
        _expect(answer, 201)
        return str(orjson.loads(await answer.read())["id"])


def _same(found: Streamed, model: str) -> None:
    if found.text != script_for(model).text:
        raise LoadFailed(f"the text of {model} is not what the provider sent")


async def ttft(job: dict[str, Any]) -> dict[str, Any]:
    """Interleaved pairs, direct and through AL-Chat; their difference is what is added."""
    model = "stream-20-5"
    direct_times, alchat_times = [], []
    async with aiohttp.ClientSession() as http:
        for index in range(job["warmUp"] + job["count"]):
            talk = await conversation(http, job["alchat"], job["tokens"][0])
            plain = await direct(http, job["provider"], model)
            await asyncio.sleep(0.02)
            borrowed = await through_alchat(http, job["alchat"], job["tokens"][0], talk, model)
            await asyncio.sleep(0.02)
            _same(plain, model)
            _same(borrowed, model)
            if index == 0:
                cold = borrowed.first - plain.first
            if index >= job["warmUp"]:
                direct_times.append(plain.first)
                alchat_times.append(borrowed.first)
    added = [one - other for one, other in zip(alchat_times, direct_times, strict=True)]
    return {
        "count": len(added),
        "addedP50Ms": percentile(added, 50) * 1000,
        "addedP95Ms": percentile(added, 95) * 1000,
        "directP50Ms": percentile(direct_times, 50) * 1000,
        "directP95Ms": percentile(direct_times, 95) * 1000,
        "alchatP50Ms": percentile(alchat_times, 50) * 1000,
        "alchatP95Ms": percentile(alchat_times, 95) * 1000,
        "firstOfAllAddedMs": cold * 1000,
    }


async def streams(job: dict[str, Any]) -> dict[str, Any]:
    """Many answers at once, through AL-Chat or, as the baseline, straight from the provider."""
    tokens, interval = job["tokensEach"], job["intervalMs"]
    model = f"stream-{tokens}-{interval}"
    ideal = (tokens - 1) * interval / 1000
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        users = [job["tokens"][index % len(job["tokens"])] for index in range(job["streams"])]
        if job["through"] == "alchat":
            talks = [await conversation(http, job["alchat"], token) for token in users]
            calls = [
                through_alchat(http, job["alchat"], token, talk, model)
                for token, talk in zip(users, talks, strict=True)
            ]
        else:
            calls = [direct(http, job["provider"], model) for _ in users]
        begin = time.perf_counter()
        found = await asyncio.gather(*calls)
        wall = time.perf_counter() - begin
    for each in found:
        _same(each, model)
    return {
        "streams": len(found),
        "idealS": ideal,
        "wallS": wall,
        "stretch": wall / ideal,
        "medianStretch": percentile([each.end for each in found], 50) / ideal,
        "firstTokenP50Ms": percentile([each.first for each in found], 50) * 1000,
        "firstTokenP95Ms": percentile([each.first for each in found], 95) * 1000,
    }


@dataclass(frozen=True)
class Reading:
    """What one client asks for over and over, and what has to be in each answer."""

    url: str
    query: dict[str, str]
    token: str
    wanted: bytes


async def exchange(http: aiohttp.ClientSession, job: dict[str, Any], user_token: str) -> str:
    """A project token for a user token, as AL-Chat gets it."""
    basic = base64.b64encode(":".join(job["client"]).encode()).decode()
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": user_token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "scope": "credential:use",
        "credential_type": "openai",
    }
    async with http.post(
        f"{job['portal']}/api/token", data=form, headers={"Authorization": f"Basic {basic}"}
    ) as answer:
        _expect(answer, 200)
        return str(orjson.loads(await answer.read())["access_token"])


async def loans(http: aiohttp.ClientSession, job: dict[str, Any]) -> list[Reading]:
    """Reads a credential as AL-Chat does, each client for its own user."""
    found = []
    for user in job["users"]:
        token = await exchange(http, job, user["userToken"])
        query = {"username": user["name"], "credentialType": "openai", "projectId": "al-chat"}
        found.append(Reading(f"{job['portal']}/api/credentials", query, token, b"sk-demo-"))
    return found


def metadata(job: dict[str, Any]) -> list[Reading]:
    """Reads what a user sees of a credential, with a personal access token."""
    place = f"{job['portal']}/api/credentials"
    return [
        Reading(f"{place}/{user['credentialId']}", {}, user["accessToken"], b'"hint"')
        for user in job["users"]
    ]


async def _client(
    http: aiohttp.ClientSession, what: Reading, until: float, times: list[tuple[float, float]]
) -> None:
    """Adds when each answer came, and how long it took."""
    headers = {"Authorization": f"Bearer {what.token}"}
    while (begin := time.perf_counter()) < until:
        async with http.get(what.url, params=what.query, headers=headers) as answer:
            _expect(answer, 200)
            body = await answer.read()
        end = time.perf_counter()
        times.append((end, end - begin))
        if what.wanted not in body:
            raise LoadFailed("an answer without what was asked for")


def _figures(times: Sequence[tuple[float, float]], seconds: float) -> dict[str, Any]:
    taken = [each for _, each in times]
    return {
        "reads": len(taken),
        "perSecond": len(taken) / seconds,
        "p50Ms": percentile(taken, 50) * 1000,
        "p99Ms": percentile(taken, 99) * 1000,
    }


async def resolve(job: dict[str, Any]) -> dict[str, Any]:
    """Clients that read over and over: loans, or metadata as the baseline."""
    times: list[tuple[float, float]] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        readings = await loans(http, job) if job["what"] == "loans" else metadata(job)
        for seconds in (0.5, job["seconds"]):
            warm = len(times)
            begin = time.perf_counter()
            await asyncio.gather(
                *(_client(http, reading, begin + seconds, times) for reading in readings)
            )
            wall = time.perf_counter() - begin
    return {
        "clients": len(readings),
        "readsInAll": len(times),
        **_figures(times[warm:], wall),
    }


async def history(job: dict[str, Any]) -> dict[str, Any]:
    """Reads each address one after the other, over and over."""
    headers = {"Authorization": f"Bearer {job['token']}"}
    found = {}
    async with aiohttp.ClientSession(headers=headers) as http:
        for name, path in job["paths"].items():
            times = []
            for turn in range(job["warmUp"] + job["count"]):
                begin = time.perf_counter()
                async with http.get(job["alchat"] + path) as answer:
                    _expect(answer, 200)
                    body = await answer.read()
                if turn >= job["warmUp"]:
                    times.append(time.perf_counter() - begin)
            found[name] = {
                "p50Ms": percentile(times, 50) * 1000,
                "p95Ms": percentile(times, 95) * 1000,
                "bytes": len(body),
            }
    return found


async def rotate(job: dict[str, Any]) -> dict[str, Any]:
    """Clients that borrow all the time while the root key is rotated by another process."""
    times: list[tuple[float, float]] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        readings = await loans(http, job)
        clients = [
            asyncio.create_task(_client(http, reading, float("inf"), times)) for reading in readings
        ]
        await asyncio.sleep(1)
        begin = time.perf_counter()
        await asyncio.sleep(job["seconds"])
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *job["command"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, said = await process.communicate()
        ended = time.perf_counter()
        await asyncio.sleep(1)
        for client in clients:
            client.cancel()
        failed = await asyncio.gather(*clients, return_exceptions=True)
    for error in failed:
        if isinstance(error, Exception):
            raise error
    if process.returncode:
        raise LoadFailed(f"the rotation ended with {said.decode()[-500:]}")
    before = [item for item in times if begin <= item[0] < started]
    during = [item for item in times if started <= item[0] < ended]
    return {
        "clients": len(readings),
        "readsInAll": len(times),
        "rotationS": ended - started,
        "before": _figures(before, started - begin),
        "during": _figures(during, ended - started),
    }


JOBS = {
    "ttft": ttft,
    "streams": streams,
    "resolve": resolve,
    "rotate": rotate,
    "history": history,
    "sessions": sessions.chat,
    "identity": identity.visit,
}


def main() -> int:
    job = json.load(sys.stdin)
    try:
        result = uvloop.run(JOBS[job["job"]](job))
    except (LoadFailed, SessionFailed, aiohttp.ClientError) as error:
        print(f"benchmarks.load: {error or type(error).__name__}", file=sys.stderr)
        return 1
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
