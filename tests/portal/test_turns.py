"""Turns: who works, who sleeps, and that nobody sleeps for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from portal.turns import Turns


class Page(threading.Thread):
    """Takes a turn and keeps it until it is told to end."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(daemon=True)
        self._turns = turns
        self.works, self.may_end = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self._turns.one():
            self.works.set()
            self.may_end.wait(10)

    def end(self) -> None:
        self.may_end.set()
        self.join(5)


@pytest.fixture
def turns() -> Turns:
    return Turns(at_once=2, longest=30.0)


@pytest.fixture
def two_at_work(turns: Turns) -> Iterator[list[Page]]:
    pages = [Page(turns), Page(turns)]
    assert all(page.works.wait(5) for page in pages)
    yield pages
    for page in pages:
        page.end()


def test_as_many_work_as_may_and_the_next_one_begins_when_one_ends(
    turns: Turns, two_at_work: list[Page]
) -> None:
    third = Page(turns)
    assert not third.works.wait(0.2)
    two_at_work[0].end()
    assert third.works.wait(5)
    third.end()


def test_who_waits_longest_is_next(turns: Turns, two_at_work: list[Page]) -> None:
    third = Page(turns)
    time.sleep(0.1)
    fourth = Page(turns)
    assert not third.works.wait(0.1)
    two_at_work[0].end()
    assert third.works.wait(5)
    assert not fourth.works.is_set()
    third.end()
    assert fourth.works.wait(5)
    fourth.end()


class Waits(threading.Thread):
    """Begins with a turn, pauses it, and then notes when it goes on."""

    def __init__(self, turns: Turns, notes: list[str], name: str, patience: float | None) -> None:
        super().__init__(daemon=True, name=name)
        self._turns, self._notes, self._patience = turns, notes, patience
        self.waits, self.may_go_on = threading.Event(), threading.Event()

    def run(self) -> None:
        with self._turns.one():
            with self._turns.pause(self._patience):
                self.waits.set()
                self.may_go_on.wait(10)
            self._notes.append(self.name)


@pytest.mark.parametrize(("patience", "order"), [(None, ["early", "late"]), (5, ["late", "early"])])
def test_who_began_first_goes_on_first_but_for_those_with_patience(
    patience: float | None, order: list[str]
) -> None:
    turns = Turns(at_once=1, longest=30.0)
    notes: list[str] = []
    early = Waits(turns, notes, "early", patience)
    early.start()
    assert early.waits.wait(5)
    with turns.one():
        late = threading.Thread(target=_note, args=(turns, notes, "late"), daemon=True)
        late.start()
        _until(lambda: len(turns._waiting) == 1)
        early.may_go_on.set()
        _until(lambda: len(turns._waiting) == 2)
    early.join(5)
    late.join(5)
    assert notes == order


@pytest.mark.parametrize(("put_off", "order"), [(0, ["early", "late"]), (5, ["late", "early"])])
def test_who_puts_off_what_is_left_lets_those_go_first_who_begin_meanwhile(
    put_off: float, order: list[str]
) -> None:
    """Four seconds after its begin somebody else begins."""
    now = 0.0
    turns = Turns(at_once=1, longest=30.0, clock=lambda: now)
    did: list[str] = []
    waits, may_go_on = threading.Event(), threading.Event()

    def sends() -> None:
        with turns.one():
            turns.put_off(put_off)
            with turns.pause():
                waits.set()
                may_go_on.wait(10)
            did.append("early")

    early = threading.Thread(target=sends, daemon=True)
    early.start()
    assert waits.wait(5)
    with turns.one():
        now = 4.0
        late = threading.Thread(target=_note, args=(turns, did, "late"), daemon=True)
        late.start()
        _until(lambda: len(turns._waiting) == 1)
        may_go_on.set()
        _until(lambda: len(turns._waiting) == 2)
    early.join(5)
    late.join(5)
    assert did == order
    turns.put_off(1.0)  # without a turn there is nothing to put off


def _note(turns: Turns, notes: list[str], name: str) -> None:
    with turns.one():
        notes.append(name)


def _until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not there():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_turn_passes_through_the_loop_after_what_was_drawn() -> None:
    turns = Turns(at_once=1, longest=30.0)
    loop = asyncio.new_event_loop()
    did: list[str] = []
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    turns.pass_through(loop)
    with turns.one():
        other = threading.Thread(target=_note, args=(turns, did, "next"), daemon=True)
        other.start()
        _until(lambda: len(turns._waiting) == 1)
        loop.call_soon_threadsafe(lambda: loop.call_soon(did.append, "sent"))
    other.join(5)
    assert did == ["sent", "next"]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()
    # Without a loop that turns, those who wait call themselves.
    impatient = Turns(at_once=1, longest=0.05)
    impatient.pass_through(loop)
    with impatient.one():
        other = threading.Thread(target=_note, args=(impatient, did, "last"), daemon=True)
        other.start()
    other.join(5)
    assert did[-1] == "last"


def test_who_waits_for_something_else_leaves_the_turn_to_others() -> None:
    turns = Turns(at_once=1, longest=30.0)
    with turns.one():
        other = Page(turns)
        assert not other.works.wait(0.1)
        with turns.pause():
            assert other.works.wait(5)
            other.end()
        assert turns.working == 1
    assert turns.working == 0


def test_a_thread_without_a_turn_pauses_nothing() -> None:
    turns = Turns(at_once=1, longest=30.0)
    with turns.pause():
        assert turns.working == 0
    assert turns.working == 0


def test_a_page_that_hangs_keeps_others_waiting_for_one_turn_only() -> None:
    turns = Turns(at_once=1, longest=0.1)
    hangs = Page(turns)
    assert hangs.works.wait(5)
    begun = time.monotonic()
    with turns.one():
        assert time.monotonic() - begun < 5
    # And who comes now is not even kept waiting.
    begun = time.monotonic()
    with turns.one():
        assert time.monotonic() - begun < 0.09
    hangs.end()


def test_a_turn_that_ends_in_an_error_is_given_back() -> None:
    turns = Turns(at_once=1, longest=30.0)
    with pytest.raises(ValueError, match="x"), turns.one():
        raise ValueError("x")
    assert turns.working == 0


def test_hundred_pages_all_get_their_turns() -> None:
    turns = Turns(at_once=2, longest=30.0)
    most, done, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, done
        for _ in range(5):
            with turns.one():
                with lock:
                    most = max(most, turns.working)
                with turns.pause():
                    time.sleep(0.001)
        with lock:
            done += 1

    threads = [threading.Thread(target=work) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert done == 100
    assert 1 <= most <= 2
