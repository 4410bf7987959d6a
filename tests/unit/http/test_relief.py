"""Which connections end when file descriptors run short: the order, how many, and what counts as a trickle."""

import pytest

from eggcluster.http.relief import IDLE, TRICKLING, UNFINISHED, Waiting, close_waiting, is_trickle


def test_idle_ones_come_first_and_the_oldest_of_each_kind() -> None:
    ended: list[str] = []
    names = {"b": (IDLE, 8.0), "d": (UNFINISHED, 2.0), "a": (IDLE, 7.0), "e": (TRICKLING, 0.0), "c": (UNFINISHED, 1.0)}
    candidates = [Waiting(*rank, lambda name=name: ended.append(name)) for name, rank in names.items()]  # type: ignore[misc]
    assert close_waiting(candidates, 4, now=10.0) == 4
    assert ended == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("present", "least", "closed"), [(0, 4, 0), (3, 4, 3), (100, 4, 12), (100, 32, 32)])
def test_at_least_so_many_and_at_least_an_eighth(present: int, least: int, closed: int) -> None:
    assert close_waiting([Waiting(IDLE, 0.0, lambda: None)] * present, least, now=0.0) == closed


@pytest.mark.parametrize(("kind", "closed"), [(IDLE, 1), (UNFINISHED, 0)])
def test_a_client_has_a_moment_to_say_what_it_wants(kind: int, closed: int) -> None:
    assert close_waiting([Waiting(kind, 9.5, lambda: None)], 1, now=10.0) == closed


@pytest.mark.parametrize(
    ("received", "seconds", "trickles"), [(0, 5.0, False), (1500, 6.0, False), (1400, 6.0, True), (60, 60.0, True)]
)
def test_a_trickle(received: int, seconds: float, trickles: bool) -> None:
    assert is_trickle(received, seconds) is trickles
