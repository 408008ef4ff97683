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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import httptools
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
    """When it was sent, the first token came, and it ended (`perf_counter`), and what had come."""

    begin: float
    first: float
    end: float
    raw: bytes


def percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    if len(ordered) < 2:
        return ordered[0]
    return statistics.quantiles(ordered, n=100, method="inclusive")[percent - 1]


class Line(asyncio.Protocol):
    """A connection that asks one thing after the other, and notes when a mark came.

    aiohttp costs several times as much for each answer, and the load client shares the machine with
    what it measures.
    """

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._asked: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._mark = b""
        self._first = 0.0

    @classmethod
    async def open(cls, url: str) -> Line:
        loop = asyncio.get_running_loop()
        place = urlsplit(url)
        assert place.hostname is not None
        assert place.port is not None
        _, line = await loop.create_connection(cls, place.hostname, place.port)
        return line

    async def ask(
        self, url: str, headers: Mapping[str, str], wanted: int, body: Any = None, mark: bytes = b""
    ) -> Streamed:
        """GET, or POST where there is a body; raises LoadFailed for another status than `wanted`.

        `first` is when `mark` came; where it never did, when the answer ended.
        """
        assert self._transport is not None
        place = urlsplit(url)
        method, sent = ("GET", b"") if body is None else ("POST", orjson.dumps(body))
        head = {"Host": place.netloc, **headers, "Content-Length": str(len(sent))}
        lines = [f"{method} {place.path} HTTP/1.1", *(f"{key}: {head[key]}" for key in head)]
        self._parser = httptools.HttpResponseParser(self)
        self._asked = asyncio.get_running_loop().create_future()
        self._parts, self._mark, self._first = [], mark, 0.0
        begin = time.perf_counter()
        self._transport.write("\r\n".join([*lines, "", ""]).encode() + sent)
        await self._asked
        end = time.perf_counter()
        if (status := self._parser.get_status_code()) != wanted:
            raise LoadFailed(f"{method} {place.path}: {status}")
        return Streamed(begin, self._first or end, end, b"".join(self._parts))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        assert self._parser is not None
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(LoadFailed(f"an answer was cut off: {exc or 'no reason'}"))

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        if not self._first and self._mark and self._mark in body:
            self._first = time.perf_counter()

    def on_message_complete(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)


async def direct(provider: str, model: str) -> Streamed:
    """One answer straight from the provider."""
    begin = time.perf_counter()
    line = await Line.open(provider)
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Go on."}]}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    found = await line.ask(f"{provider}/chat/completions", headers, 200, body, FIRST_TOKEN)
    line.close()
    return replace(found, begin=begin)


async def through_alchat(alchat: str, token: str, conversation: str, model: str) -> Streamed:
    """One answer through AL-Chat: the message, then the events of its run."""
    begin = time.perf_counter()
    line = await Line.open(alchat)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = {"content": "Go on.", "model": model}
    messages = f"{alchat}/api/conversations/{conversation}/messages"
    run = orjson.loads((await line.ask(messages, headers, 202, body)).raw)["runId"]
    found = await line.ask(f"{alchat}/api/runs/{run}/events", headers, 200, mark=FIRST_EVENT)
    line.close()
    return replace(found, begin=begin)


def provider_text(raw: bytes) -> str:
    """What the provider's stream says."""
    frames = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: {")]
    deltas = [frame["choices"][0]["delta"] for frame in map(orjson.loads, frames)]
    return "".join(delta.get("content", "") for delta in deltas)


def run_text(raw: bytes) -> str:
    """What the events of a run say. Raises LoadFailed unless it was completed."""
    text, last = [], ""
    for event in raw.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line[1:])
        last = fields.get(b"event", last.encode()).decode()
        if last == "text.delta" and b"data" in fields:
            text.append(orjson.loads(fields[b"data"])["text"])
    if last != "run.completed":
        raise LoadFailed(f"a run ended with {last or 'nothing'}: {raw[-300:].decode()}")
    return "".join(text)


def _expect(answer: aiohttp.ClientResponse, status: int) -> None:
    if answer.status != status:
        raise LoadFailed(f"{answer.method} {answer.url.path}: {answer.status}")


async def conversation(http: aiohttp.ClientSession, alchat: str, token: str) -> str:
    async with http.post(
        f"{alchat}/api/conversations", json={}, headers={"Authorization": f"Bearer {token}"}
    ) as answer:
        _expect(answer, 201)
        return str(orjson.loads(await answer.read())["id"])


def _same(text: str, model: str) -> None:
    if text != script_for(model).text:
        raise LoadFailed(f"the text of {model} is not what the provider sent")


async def ttft(job: dict[str, Any]) -> dict[str, Any]:
    """Interleaved pairs, direct and through AL-Chat; their difference is what is added."""
    model = "stream-20-5"
    direct_times, alchat_times = [], []
    async with aiohttp.ClientSession() as http:
        for _ in range(job["warmUp"] + job["count"]):
            talk = await conversation(http, job["alchat"], job["tokens"][0])
            plain = await direct(job["provider"], model)
            await asyncio.sleep(0.02)
            borrowed = await through_alchat(job["alchat"], job["tokens"][0], talk, model)
            await asyncio.sleep(0.02)
            _same(provider_text(plain.raw), model)
            _same(run_text(borrowed.raw), model)
            direct_times.append(plain.first - plain.begin)
            alchat_times.append(borrowed.first - borrowed.begin)
    cold = alchat_times[0] - direct_times[0]
    del direct_times[: job["warmUp"]], alchat_times[: job["warmUp"]]
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
    async with aiohttp.ClientSession() as http:
        users = [job["tokens"][index % len(job["tokens"])] for index in range(job["streams"])]
        if job["through"] == "alchat":
            talks = [await conversation(http, job["alchat"], token) for token in users]
            calls = [
                through_alchat(job["alchat"], token, talk, model)
                for token, talk in zip(users, talks, strict=True)
            ]
        else:
            calls = [direct(job["provider"], model) for _ in users]
        found = await asyncio.gather(*calls)
    read = run_text if job["through"] == "alchat" else provider_text
    for each in found:
        _same(read(each.raw), model)
    wall = max(each.end for each in found) - min(each.begin for each in found)
    waits = [each.first - each.begin for each in found]
    return {
        "streams": len(found),
        "idealS": ideal,
        "wallS": wall,
        "stretch": wall / ideal,
        "medianStretch": percentile([each.end - each.begin for each in found], 50) / ideal,
        "firstTokenP50Ms": percentile(waits, 50) * 1000,
        "firstTokenP95Ms": percentile(waits, 95) * 1000,
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
