"""The counters of HTTP: what a worker counts in shared memory, and sums over several workers."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.http_counters import BOUNDS, CLASSES, SIZE, HttpCounts, HttpMeter

RESPONSES = st.lists(
    st.tuples(st.integers(100, 599), st.floats(0, 100), st.integers(0, 2**40), st.integers(0, 2**40)), max_size=30
)


def numbers() -> memoryview:
    return memoryview(array("Q", bytes(8 * SIZE)))


@given(RESPONSES)
def test_each_response_is_in_one_class_and_one_bucket(responses: list[tuple[int, float, int, int]]) -> None:
    shared = numbers()
    meter = HttpMeter(shared)
    for response in responses:
        meter.count(*response)
    counts = HttpCounts()
    counts.add(shared)
    assert [counts.responses(number) for number in range(1, CLASSES + 1)] == [
        sum(status // 100 == number for status, _, _, _ in responses) for number in range(1, CLASSES + 1)
    ]
    durations = counts.durations()
    assert sum(durations) == len(responses)
    for bound, upto in zip(BOUNDS, range(1, len(BOUNDS) + 1), strict=True):
        assert sum(durations[:upto]) == sum(seconds <= bound for _, seconds, _, _ in responses)
    assert counts.seconds == pytest.approx(sum(seconds for _, seconds, _, _ in responses), abs=1e-6)
    assert counts.received == sum(received for _, _, received, _ in responses)
    assert counts.sent == sum(sent for _, _, _, sent in responses)


@pytest.mark.parametrize("status", [0, 99, 600, 999])
def test_a_status_of_no_class_counts_as_an_error_of_the_server(status: int) -> None:
    shared, counts = numbers(), HttpCounts()
    HttpMeter(shared).count(status, 0.1, 0, 0)
    counts.add(shared)
    assert counts.responses(5) == 1


def test_a_copy_goes_on_by_itself() -> None:
    shared, counts = numbers(), HttpCounts()
    HttpMeter(shared).count(200, 0.1, 1, 2)
    counts.add(shared)
    other = counts.copy()
    other.add(shared)
    assert (counts.responses(2), other.responses(2)) == (1, 2)
