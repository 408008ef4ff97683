"""Processes that write and rotate, killed with SIGKILL at any moment, again and again.

Whatever they had reported as done is there and can be read; what they had begun is done or not; the
ring opens, and the audit log is whole.
"""

from __future__ import annotations

import os
import random
import signal
import time
from itertools import cycle
from pathlib import Path

from papita_core.actors import Actor
from papita_core.app import Papita
from papita_core.users.service import NewUser
from papita_core.vault.models import Credential
from tests.papita_core.house import PASSWORD, House, both_engines
from tests.papita_core.starter import Starter

KILLS = {"sqlite": 40, "postgresql": 12}
FIRST_STARTS = 12


@both_engines
def test_writers_and_rotations_that_are_killed_lose_nothing(
    house: House, engine: str, starter: Starter
):
    house.sign_in("ana")
    log = house.folder / "log"
    moments, others = random.Random(7), cycle(("rotate root", "rotate master"))
    killed = interrupted = 0
    while killed < KILLS[engine]:
        other = next(others)
        before = work_seen(house, log)
        workers = [starter.work(house.environment, what, log) for what in ("store", other)]
        # Both are at work when the kill comes: each has got something done since it began.
        while not all(work_seen(house, log)[what] != before[what] for what in ("store", other)):
            assert all(alive(pid) for pid in workers)
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1))
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        endings = starter.wait()
        assert endings == [-signal.SIGKILL] * 2  # each was at work until then
        killed += 2
        interrupted += house.papita.rotation.progress().state == "interrupted"
    assert interrupted > 0
    lines = seen(log)
    papita = house.opened()
    assert_nothing_is_lost(papita, lines)
    done = papita.rotation.rotate_root(Actor.operator())  # finishes what was interrupted
    assert done.problem is None
    assert papita.rotation.rotate_master(Actor.operator()).removed
    assert papita.rotation.progress().state == "idle"
    slots = {row[0] for row in house.sql("SELECT master_kid FROM key_slots")}
    papita = house.opened()
    assert slots == {papita.ring.status.master_kid}
    assert_nothing_is_lost(papita, lines)
    states = [row[0] for row in house.sql("SELECT state FROM root_keys WHERE state != 'retired'")]
    assert states == ["active"]


def work_seen(house: House, log: Path) -> dict[str, object]:
    """Something that differs after each piece of work of a kind."""
    words = [line[0] for line in seen(log)]
    progress = house.papita.rotation.progress()
    roots = [root.state for root in house.papita.ring.status.roots]
    return {
        "store": words.count("stored"),
        "rotate root": (len(roots), roots.count("retired"), progress.total - progress.done),
        "rotate master": words.count("changed"),
    }


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in (
        Path(f"/proc/{pid}/status").read_text()
    )


def seen(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def assert_nothing_is_lost(papita: Papita, lines: list[list[str]]) -> None:
    """`lines` is what the processes wrote before and after each step."""
    begun = {line[-1] for line in lines if line[0] == "creating"}
    allowed: dict[str, set[str]] = {}
    for word, *rest in lines:
        if word == "stored":
            allowed[rest[0]] = {rest[1]}
        elif word == "replacing":
            allowed[rest[0]].add(rest[1])
    assert allowed
    with papita.database.read() as session:
        rows = session.query(Credential).all()
        found = {row.id: papita.credentials.unsealed(session, row)["api_key"] for row in rows}
    assert allowed.keys() <= found.keys()
    for number, value in found.items():
        assert value in allowed.get(number, begun)
    assert {row.status for row in rows} == {"untested"}
    assert papita.audit.verify() == []


def test_first_starts_that_are_killed_leave_nothing_that_the_next_cannot_use(
    tmp_path: Path, starter: Starter
):
    moments = random.Random(11)
    killed = number = 0
    while killed < FIRST_STARTS:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        with House(folder) as house:
            # Killed up to three times in a row, each time where the one before had come to.
            for _ in range(3):
                (pid,) = starter.build(house.environment)
                time.sleep(moments.uniform(0, 0.25))
                os.kill(pid, signal.SIGKILL)
                killed += starter.wait() == [-signal.SIGKILL]
            papita = house.papita
            assert papita.ready() == (True, "ready")
            papita.users.create(Actor.operator(), NewUser("ana", PASSWORD))
            assert papita.audit.verify() == []
            assert len(papita.ring.status.roots) == 1
            assert house.opened().users.by_username("ana") is not None
