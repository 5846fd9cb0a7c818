"""Writers of one process take turns in the order they came, and wait no longer than they are told to."""

import shutil
import threading
import time

import pytest

from fairway.db import engine
from fairway.db.engine import Database
from fairway.db.turn import Turn
from fairway.errors import Unavailable


def waiting(turn: Turn, number: int, order: list[int], seconds: float = 20) -> threading.Thread:
    """A thread that waits for its turn; it is in the queue when this returns."""

    def wait() -> None:
        if turn.take(seconds) is not None:
            order.append(number)
            turn.give()

    before = len(turn._waiting)
    thread = threading.Thread(target=wait)
    thread.start()
    while len(turn._waiting) == before and thread.is_alive():
        time.sleep(0.001)
    return thread


def test_they_come_in_order():
    turn, order = Turn(), []
    assert turn.take(1) == 1
    threads = [waiting(turn, number, order) for number in range(8)]
    turn.give()
    for thread in threads:
        thread.join(10)
    assert order == list(range(8))
    assert turn.take(0) == 0


def test_who_writes_again_at_once_goes_behind_those_who_wait():
    turn, order = Turn(), []
    turn.take(1)
    thread = waiting(turn, 1, order)
    turn.give()
    assert turn.take(20) is not None
    assert order == [1]
    turn.give()
    thread.join(10)


def test_who_gave_up_is_passed_over():
    turn, order = Turn(), []
    turn.take(1)
    impatient = waiting(turn, 0, order, seconds=0.05)
    patient = waiting(turn, 1, order)
    impatient.join(10)
    assert order == []
    turn.give()
    patient.join(10)
    assert order == [1]
    assert turn.take(0) == 0


def test_what_is_left_shrinks_while_one_waits():
    turn = Turn()
    turn.take(1)
    threading.Timer(0.1, turn.give).start()
    assert 0 < turn.take(10) <= 9.9


def test_no_turn_is_lost_between_giving_and_giving_up():
    turn, taken = Turn(), []

    def hurry(number: int) -> None:
        for _ in range(200):
            if turn.take(0.0002 * number) is not None:
                taken.append(number)
                turn.give()

    threads = [threading.Thread(target=hurry, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert taken
    assert turn.take(0) == 0
    assert not turn._waiting


def test_the_wait_for_the_turn_and_for_another_process_are_one(tmp_path, sqlite_template, monkeypatch):
    """Six writers here, while another process writes: the later have waited when their turn comes."""
    monkeypatch.setattr(engine, "PATIENCE_SECONDS", 0.6)
    path = shutil.copy(sqlite_template, tmp_path / "busy.db")
    sqlite, other = Database(f"sqlite:///{path}"), Database(f"sqlite:///{path}")
    seconds = []

    def write() -> None:
        begun = time.monotonic()
        with pytest.raises(Unavailable), sqlite.write():
            pass
        seconds.append(time.monotonic() - begun)

    with other.write():
        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(seconds) == 6
    assert max(seconds) < 6 * 0.6  # one after the other it would be that
    with sqlite.write():
        pass
    sqlite.close()
    other.close()
