"""How long a seat waits before its next incarnation."""

from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.restart_budget import HEALTHY_AFTER, MAX_DELAY, RestartBudget


def delays(budget: RestartBudget, count: int) -> list[float]:
    return [budget.died(None) for _ in range(count)]


def test_an_app_workers_first_death_waits_for_nothing_and_the_next_ones_longer() -> None:
    assert delays(RestartBudget(), 8) == [0, 0.5, 1, 2, 4, 8, 15, 15]


def test_the_agents_first_death_waits_1_s() -> None:
    assert delays(RestartBudget(first_delay=1), 6) == [1, 2, 4, 8, 15, 15]


def test_health_starts_the_count_anew_but_not_a_moment_too_early() -> None:
    budget = RestartBudget()
    delays(budget, 5)
    assert budget.died(HEALTHY_AFTER - 0.1) == 8
    assert budget.died(HEALTHY_AFTER) == 0


def test_all_deaths_are_counted_for_the_status() -> None:
    budget = RestartBudget()
    delays(budget, 3)
    budget.died(1000)
    budget.forgive()
    assert (budget.deaths, budget.deaths_in_a_row) == (4, 0)


@given(st.lists(st.none() | st.floats(0, 100)), st.sampled_from([0.0, 1.0]))
def test_no_delay_is_negative_or_above_15_s(lives: list[float | None], first: float) -> None:
    budget = RestartBudget(first)
    for healthy_for in lives:
        assert first <= budget.died(healthy_for) <= MAX_DELAY


def test_a_million_deaths_overflow_nothing() -> None:
    assert RestartBudget(1.0, deaths_in_a_row=10**6).died(None) == MAX_DELAY
