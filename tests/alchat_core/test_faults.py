"""Faults of everything around an answer, against real processes: nothing that was seen is lost.

Covered elsewhere: one kill with followers that come back, a clean stop, followers that leave
(test_answers.py); a provider that hangs, stalls, cuts, resets or sends malformed chunks
(test_answers.py), or nonsense in every cut of the stream (test_parts.py); tries before the first
word (test_retries.py); Papita gone in the middle of an answer, and permissions that are taken back
then (test_loans.py); every refusal of Papita (test_answers.py).
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
import requests
from conftest import ROOT, Service, ask, follow_to_end, text_of, wait_until
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, Event, Follower, Unavailable, UserClient
from alchat_core.errors import RUN_ERRORS
from demo.provider.scripts import script_for

KILLS, ANSWERS = 30, 2
LONG = "stream-3000-3"


@pytest.fixture
def user_of() -> Iterator[Callable[[Service, FakePapita], UserClient]]:
    """A user of a service of one's own."""
    made: list[AlChatClient] = []

    def user(service: Service, papita: FakePapita) -> UserClient:
        made.append(AlChatClient(service.url))
        return made[-1].as_user(lambda: papita.token_for("kim"))

    yield user
    for client in made:
        client.close()


UserOf = Callable[[Service, FakePapita], UserClient]


def test_killed_at_random_moments_of_many_answers(
    own_service: Callable[..., Service], papita: FakePapita, user_of: UserOf
) -> None:
    """Thirty kills, each in the middle of two answers, over and over in one data folder."""
    service = own_service(ALCHAT_MAX_RUNNING_ANSWERS="100")
    user = user_of(service, papita)
    whole = script_for(LONG).text
    chance = random.Random(4)
    shown = 0
    for _ in range(KILLS):
        sent, followers = [], []
        for _ in range(ANSWERS):
            conversation = user.create_conversation()
            sent.append((conversation.id, user.send(conversation.id, "hello", model=LONG)))
            followers.append(user.follow(sent[-1][1].run_id))
            time.sleep(chance.random() * 0.15)
        time.sleep(chance.random() * 0.2)
        service.stop(signal.SIGKILL)
        seen = [_drained(follower) for follower in followers]
        service.start()
        assert _unfinished(service) == 0
        for (conversation_id, one), events in zip(sent, seen, strict=True):
            again = follow_to_end(user, one.run_id)
            assert again[: len(events)] == events
            assert again[-1].type == "run.interrupted"
            assert [event.id for event in again] == list(range(1, len(again) + 1))
            assert user.run(one.run_id).state == "interrupted"
            content = user.messages(conversation_id).items[-1].content
            assert content == text_of(again)
            assert whole.startswith(content)
            shown += bool(text_of(events))
        assert user.conversation(conversation_id).active_run_id is None
        if content:
            kept = user.messages(conversation_id).items[-1]
            more = follow_to_end(user, user.go_on(kept.id, model="echo").run_id)
            assert more[-1].type == "run.completed"
            answer = user.messages(conversation_id).items[-1]
            assert (answer.id, answer.content) == (kept.id, content + text_of(more))
    assert shown > KILLS  # otherwise nobody saw anything, and nothing was shown by it
    assert ask(user, "echo")[-1].type == "run.completed"


def _drained(follower: Follower) -> list[Event]:
    """What had arrived; nothing more will."""
    events: list[Event] = []
    while more := follower.wait(0.01):
        events += more
    follower.close()
    return events


def _unfinished(service: Service) -> int:
    rows = sqlite3.connect(service.database)
    count: int = rows.execute(
        "SELECT count(*) FROM runs WHERE state IN ('queued', 'running')"
    ).fetchone()[0]
    rows.close()
    return count


@pytest.mark.parametrize("model", ["dribble", "lump-1000"])
def test_bytes_that_dribble_and_a_megabyte_in_one_chunk_are_read(
    user: UserClient, model: str
) -> None:
    events = ask(user, model)
    assert events[-1].type == "run.completed", events[-1]
    assert text_of(events) == script_for(model).text


def test_a_flood_is_stopped_and_drowns_nobody(
    own_service: Callable[..., Service], papita: FakePapita, user_of: UserOf
) -> None:
    # The provider prepares its flood in one go and answers nobody meanwhile.
    service = own_service(ALCHAT_MAX_ANSWER_CHARS="100000")
    user = user_of(service, papita)
    assert ask(user, "echo")[-1].type == "run.completed"
    before = _rss(service)
    conversation = user.create_conversation()
    flood = user.send(conversation.id, "hello", model="stream-60000-0")
    beside = ask(user, "stream-40-5")
    assert text_of(beside) == script_for("stream-40-5").text
    events = follow_to_end(user, flood.run_id)
    assert events[-1].data["code"] == "provider-error"
    assert "too long" in events[-1].data["message"]
    kept = user.messages(conversation.id).items[-1].content
    assert kept == text_of(events)
    assert 0 < len(kept) <= 100_000
    assert _rss(service) - before < 60


def test_papita_that_comes_later_is_found(
    own_service: Callable[..., Service], papita: FakePapita, user_of: UserOf
) -> None:
    late = FakePapita()
    late.start()
    late.stop()
    late.base_url = papita.base_url
    service = own_service(PAPITA_API_URL=late.url)
    user = user_of(service, late)
    with pytest.raises(Unavailable) as refused:
        user.create_conversation()
    assert refused.value.code == "papita-unreachable"
    late.start()
    try:
        assert ask(user, "echo")[-1].type == "run.completed"
        assert requests.get(service.url + "/readyz", timeout=5).ok
        late.stop()
        # Whoever is known goes on; what needs a key says why it has none.
        events = ask(user, "echo")
        assert events[-1].data["code"] == "papita-unreachable"
    finally:
        late.stop()


def full_disk(service: Service, full: bool) -> None:
    """Lets every write of the process to a file fail, or work again."""
    assert service.process is not None
    _, hard = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    soft = 0 if full else hard
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_for_a_moment_loses_nothing(
    own_service: Callable[..., Service], papita: FakePapita, user_of: UserOf
) -> None:
    service = own_service()
    user = user_of(service, papita)
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-200-5")
    with user.follow(sent.run_id) as follower:
        events = follower.wait(10)
        full_disk(service, True)
        ready = service.url + "/readyz"
        wait_until(lambda: requests.get(ready, timeout=5).status_code == 503)
        told = requests.get(ready, timeout=5).json()
        assert told["code"] == "database-unavailable"
        assert "disk" in told["detail"]
        with pytest.raises(Unavailable) as refused:
            user.create_conversation()
        assert refused.value.code == "database-unavailable"
        full_disk(service, False)
        wait_until(lambda: requests.get(ready, timeout=5).ok)
        while not follower.finished:
            events += follower.wait(1)
    assert events[-1].type == "run.completed"
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert text_of(events) == script_for("stream-200-5").text
    assert user.messages(conversation.id).items[-1].content == text_of(events)


def test_a_disk_that_stays_full_ends_the_answer_and_keeps_what_was_shown(
    own_service: Callable[..., Service], papita: FakePapita, user_of: UserOf
) -> None:
    service = own_service(ALCHAT_STORAGE_PATIENCE="0.5")
    user = user_of(service, papita)
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model=LONG)
    with user.follow(sent.run_id) as follower:
        events = follower.wait(10)
        while not text_of(events):
            events += follower.wait(10)
        full_disk(service, True)
        while not follower.finished:
            events += follower.wait(1)
        assert events[-1].type == "run.failed"
        assert events[-1].data["code"] == "storage-failed"
        assert events[-1].data["message"] == RUN_ERRORS["storage-failed"].message
        run = user.run(sent.run_id)
        assert (run.state, run.error and run.error.code) == ("failed", "storage-failed")
    full_disk(service, False)
    wait_until(lambda: user.messages(conversation.id).items[-1].error is not None)
    again = follow_to_end(user, sent.run_id)
    assert [event for event in again if event in events] == events
    assert [event.id for event in again] == list(range(1, len(again) + 1))
    assert user.messages(conversation.id).items[-1].content == text_of(again)
    assert ask(user, "echo")[-1].type == "run.completed"


CLOCK = """
import os, time
_time, _place = time.time, os.environ["TEST_CLOCK"]

def _shifted():
    with open(_place) as shift:
        return _time() + float(shift.read())

time.time = _shifted
"""


def test_a_clock_that_steps_back_disturbs_no_answer(
    own_service: Callable[..., Service],
    papita: FakePapita,
    user_of: UserOf,
    tmp_path: Path,
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    service = own_service(PYTHONPATH=f"{tmp_path}:{ROOT}", TEST_CLOCK=str(clock))
    user = user_of(service, papita)
    conversation = user.create_conversation()
    said = ["one"]
    follow_to_end(user, user.send(conversation.id, "one", model="echo").run_id)
    sent = user.send(conversation.id, "two", model="stream-100-5")
    with user.follow(sent.run_id) as follower:
        events = follower.wait(10)
        clock.write_text("-7200")
        while not follower.finished:
            events += follower.wait(1)
    assert text_of(events) == script_for("stream-100-5").text
    follow_to_end(user, user.send(conversation.id, "three", model="echo").run_id)
    said += ["two", "three"]
    assert [m.content for m in user.messages(conversation.id) if m.role == "user"] == said


def test_two_hundred_followers_of_one_run_see_the_same(
    user: UserClient, service: Service, papita: FakePapita, username: str
) -> None:
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="stream-100-10")
    headers = {"Authorization": f"Bearer {papita.token_for(username)}"}
    url = f"{service.url}/api/runs/{sent.run_id}/events"

    async def follow_all() -> list[bytes]:
        async with aiohttp.ClientSession(
            headers=headers, connector=aiohttp.TCPConnector(limit=0)
        ) as session:

            async def follow() -> bytes:
                async with session.get(url) as response:
                    return await response.read()

            return list(await asyncio.gather(*(follow() for _ in range(200))))

    streams = asyncio.run(follow_all())
    assert len(streams) == 200
    assert len(set(streams)) == 1
    assert b"event: run.completed" in streams[0]


def test_followers_that_hardly_read_cost_no_memory_and_hold_nobody_up(
    own_service: Callable[..., Service], papita: FakePapita, user_of: UserOf
) -> None:
    service = own_service(ALCHAT_MAX_ANSWER_CHARS="20000000")
    user = user_of(service, papita)
    text = script_for("lumps-100-100").text
    assert text_of(ask(user, "lumps-100-100")) == text
    before = _rss(service)
    conversation = user.create_conversation()
    sent = user.send(conversation.id, "hello", model="lumps-100-100")
    slow = [_slow_follower(service, papita, sent.run_id) for _ in range(20)]
    try:
        begin = time.monotonic()
        assert text_of(follow_to_end(user, sent.run_id)) == text
        while time.monotonic() - begin < 2.0:
            for follower in slow:
                assert follower.recv(1)
            time.sleep(1.0)
        assert ask(user, "echo")[-1].type == "run.completed"
        slow += [_slow_follower(service, papita, sent.run_id) for _ in range(10)]
        assert all(follower.recv(1) for follower in slow)
        time.sleep(0.5)
        # All of it for each of them would be 300 MB. Alone it is 7, on a busy machine 70.
        assert _rss(service) - before < 120
    finally:
        for follower in slow:
            follower.close()


def _slow_follower(service: Service, papita: FakePapita, run_id: str) -> socket.socket:
    """Follows a run with the smallest window that the kernel gives."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    made.settimeout(5)
    made.connect(("127.0.0.1", urlsplit(service.url).port or 0))
    made.sendall(
        f"GET /api/runs/{run_id}/events HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {papita.token_for('kim')}\r\n\r\n".encode()
    )
    return made


def _rss(service: Service) -> float:
    """Megabytes that the process holds."""
    assert service.process is not None
    return float(psutil.Process(service.process.pid).memory_info().rss) / 1e6
