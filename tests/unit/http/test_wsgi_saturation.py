"""When a worker's WSGI threads are full, and when they are free again."""

from eggcluster.http.wsgi_saturation import WAITED, Saturation


def test_requests_that_wait_for_a_moment_only_do_not_make_it_full() -> None:
    saturation = Saturation(4)
    submitted = 0
    for step in range(100):  # ten wait at each look, but others each time
        submitted += 20
        assert not saturation.update(4, submitted, 10, step * WAITED)


def test_it_is_full_once_a_request_has_waited_and_free_again_when_few_threads_are_busy() -> None:
    saturation = Saturation(4)
    assert not saturation.update(4, 5, 1, 0.0)
    assert not saturation.update(4, 6, 2, WAITED / 2)
    assert saturation.update(4, 6, 2, WAITED)
    assert saturation.update(4, 6, 0, 1.0), "all threads are busy still"
    assert saturation.update(3, 6, 0, 2.0)
    assert saturation.update(2, 7, 1, 3.0), "a request waits"
    assert not saturation.update(2, 7, 0, 4.0)
    assert not saturation.update(4, 10, 1, 5.0), "the time begins anew"


def test_busy_threads_alone_and_a_pause_do_not_make_it_full() -> None:
    saturation = Saturation(2)
    assert not saturation.update(2, 2, 0, 0.0)
    assert not saturation.update(2, 2, 0, 10.0)
    assert not saturation.update(2, 3, 1, 10.1)
    assert not saturation.update(1, 3, 0, 10.2)
    assert not saturation.update(2, 4, 1, 10.4)


def test_one_thread_is_free_when_it_has_nothing_to_do() -> None:
    saturation = Saturation(1)
    saturation.update(1, 2, 1, 0.0)
    assert saturation.update(1, 2, 1, WAITED)
    assert saturation.update(1, 2, 0, 2 * WAITED)
    assert not saturation.update(0, 2, 0, 3 * WAITED)
