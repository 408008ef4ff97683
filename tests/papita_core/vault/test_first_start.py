"""The first start, by real processes that race or are killed in the middle of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from papita_core.actors import Actor
from papita_core.users.service import NewUser
from tests.papita_core.house import PASSWORD, House, both_engines
from tests.papita_core.starter import Starter


@both_engines
def test_processes_that_start_at_once_agree_on_one_key_and_one_ring(
    empty_house: House, starter: Starter
):
    house = empty_house
    del house.environment["ALCHAT_CLIENT_SECRET"]
    starter.build(house.environment, 4)
    assert starter.wait() == [0, 0, 0, 0]
    assert not house.papita.ring.sealed
    assert len(house.papita.ring.status.roots) == 1
    assert len(house.sql("SELECT kid FROM purpose_keys")) == 4
    folder = house.settings().keys_dir
    assert sorted(path.name for path in folder.iterdir()) == ["alchat-client-secret", "master.key"]


def test_a_first_start_that_is_killed_anywhere_is_made_good_by_the_next(
    tmp_path: Path, starter: Starter
):
    killed = 0
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        with House(folder) as house:
            (pid,) = starter.build(house.environment)
            time.sleep(0.02 * number)  # a start takes about a fifth of a second
            os.kill(pid, signal.SIGKILL)
            killed += starter.wait() == [-signal.SIGKILL]
            papita = house.papita
            assert papita.ready() == (True, "ready")
            papita.users.create(Actor.operator(), NewUser("ana", PASSWORD))
            assert papita.audit.verify() == []
            again = house.opened()
            assert again.ring.status == papita.ring.status
            assert again.users.by_username("ana") is not None
    assert killed > 2
