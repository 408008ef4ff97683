"""What waits for a reader of a run: when it is woken, and how often its stream is read."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from aiohttp import web

from alchat_core.client.background import Background
from alchat_core.client.followers import Follower, Followers
from alchat_core.client.values import Event


def event(number: int, kind: str = "text.delta") -> Event:
    return Event(number, kind, {"text": "word "})


def test_who_lets_events_gather_is_woken_by_the_last_one_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = Follower(Followers(Background("http://nowhere")), "run_1", 0, "token")
    looked = 0
    real = follower._rested

    def counting() -> bool:
        nonlocal looked
        looked += 1
        return real()

    monkeypatch.setattr(follower, "_rested", counting)
    rests = threading.Thread(target=follower.rest, args=(20.0,))
    rests.start()
    while not follower._resting:
        time.sleep(0.001)
    for number in range(1, 9):
        follower._put([event(number)])
        time.sleep(0.005)
    assert looked == 1
    follower._put([event(9, "run.completed")])
    rests.join(5)
    assert not rests.is_alive()
    assert [one.id for one in follower.wait(0)] == list(range(1, 10))


def test_who_waits_is_woken_by_the_first_one() -> None:
    follower = Follower(Followers(Background("http://nowhere")), "run_1", 0, "token")
    threading.Timer(0.1, follower._put, args=([event(1)],)).start()
    begun = time.monotonic()
    assert [one.id for one in follower.wait(20.0)] == [1]
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("way", ["wait", "rest"])
def test_a_nudge_wakes_once_whoever_waits_or_is_about_to(way: str, before: bool) -> None:
    follower = Follower(Followers(Background("http://nowhere")), "run_1", 0, "token")
    begun = time.monotonic()
    if before:
        follower.nudge()
    else:
        threading.Timer(0.1, follower.nudge).start()
    assert not getattr(follower, way)(20.0)
    assert time.monotonic() - begun < 5
    begun = time.monotonic()
    getattr(follower, way)(0.3)
    assert time.monotonic() - begun > 0.25


@pytest.mark.parametrize(("gap", "pieces"), [(0.0, range(15, 41)), (0.2, range(1, 13))])
def test_a_stream_is_read_in_as_few_pieces_as_the_gap_allows(gap: float, pieces: range) -> None:
    put, found, _ = asyncio.run(_follow(40, gap))
    assert found == list(range(1, 41))
    assert put in pieces


def test_the_end_of_a_stream_ends_the_gap() -> None:
    put, found, seconds = asyncio.run(_follow(8, 30.0))
    assert found == list(range(1, 9))
    assert put == 2
    assert seconds < 10


async def _follow(count: int, gap: float) -> tuple[int, list[int], float]:
    """Follows so many events, one every 20 ms: in how many pieces they came, which ones, and how
    many seconds it took.
    """

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(1, count + 1):
            kind = "run.completed" if number == count else "text.delta"
            data = json.dumps({"text": "word "})
            await response.write(f"id: {number}\nevent: {kind}\ndata: {data}\n\n".encode())
            await asyncio.sleep(0.02)
        return response

    app = web.Application()
    app.router.add_get("/api/runs/run_1/events", stream)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    background = Background(f"http://{host}:{port}")
    put = 0
    begun = time.monotonic()
    follower = Followers(background).follow("run_1", 0, lambda: "token")
    follower.gap = gap
    real = follower._put

    def counting(events: list[Event]) -> bool:
        nonlocal put
        put += 1
        return real(events)

    follower._put = counting  # type: ignore[method-assign]
    found: list[int] = []
    while not follower.finished:
        found += [one.id for one in await asyncio.to_thread(follower.wait, 0.25)]
    seconds = time.monotonic() - begun
    await asyncio.to_thread(background.close)
    await runner.cleanup()
    return put, found, seconds
