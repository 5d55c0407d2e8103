"""Threads for calls that may hang."""

import threading
import time

from rlforge import threads


def test_threads_are_few_end_when_idle_and_start_anew(monkeypatch):
    monkeypatch.setattr(threads, "_MOST", 2)
    monkeypatch.setattr(threads, "_IDLE_S", 0.05)
    crew = threads.Threads("test")
    for _ in range(2):
        gate = threading.Event()
        waiting = [crew.submit(gate.wait) for _ in range(5)]
        mine = [each for each in threading.enumerate() if each.name == "test"]
        assert len(mine) == 2
        gate.set()
        assert all(each.result(20) for each in waiting)
        for each in mine:
            each.join(20)
            assert not each.is_alive()


def test_work_that_hangs_holds_no_other_work():
    crew = threads.Threads("test")
    gate = threading.Event()
    hanging = []
    for _ in range(100):  # quick work and such that hangs by turns: none may count on a thread that is lost
        assert crew.submit(lambda: 1).result(20) == 1
        hanging.append(crew.submit(gate.wait))
        assert [crew.submit(lambda: 1) for _ in range(3)][-1].result(20) == 1
    gate.set()
    assert all(each.result(20) for each in hanging)


def test_work_that_nobody_waits_for_any_more_takes_no_place():
    crew = threads.Threads("test", most=1)
    gate = threading.Event()
    first, second = crew.submit(gate.wait), crew.submit(lambda: 2)
    while not first.running():
        time.sleep(0.001)
    crew.leave(first)
    assert second.result(20) == 2
    gate.set()
    assert first.result(20)
