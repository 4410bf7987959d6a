"""Processor time over processes that follow one another: it never goes back."""

import os

import pytest

from eggcluster.kernel import processor_time as module
from eggcluster.kernel.processor_time import ProcessorTimes, processor_time


def test_this_process_has_used_some() -> None:
    while not processor_time(os.getpid()):
        sum(range(100_000))
    assert processor_time(2**22 + 1) is None


def test_the_time_of_dead_processes_stays_in_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[int, float] = {1: 5.0, 2: 1.0}
    monkeypatch.setattr(module, "processor_time", used.get)
    times = ProcessorTimes()
    assert times.read({1: "app#1", 2: "app#2"}) == {"app#1": 5.0, "app#2": 1.0}
    used[1], used[3] = 6.0, 0.5  # the successor of 1 runs beside it
    assert times.read({1: "app#1", 2: "app#2", 3: "app#1"}) == {"app#1": 6.5, "app#2": 1.0}
    del used[1]
    assert times.read({2: "app#2", 3: "app#1"}) == {"app#1": 6.5, "app#2": 1.0}
    used[2] = 0.25  # another process with the same id
    assert times.read({2: "app#2", 3: "app#1"}) == {"app#1": 6.5, "app#2": 1.25}
    used.clear()
    assert times.read({}) == {"app#1": 6.5, "app#2": 1.25}
