"""Threads for calls that may hang."""

import threading

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
