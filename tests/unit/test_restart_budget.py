"""How long a slot waits before its next incarnation."""

from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.lives.roster import HEALTHY_AFTER, MAX_DELAY, RestartBudget


def delays(budget: RestartBudget, count: int) -> list[float]:
    return [budget.died(0, None) for _ in range(count)]


def test_an_app_workers_first_death_waits_for_nothing_and_the_next_ones_longer() -> None:
    assert delays(RestartBudget(), 8) == [0, 0.5, 1, 2, 4, 8, 15, 15]


def test_the_agents_first_death_waits_1_s() -> None:
    assert delays(RestartBudget(first_delay=1), 6) == [1, 2, 4, 8, 15, 15]


def test_health_starts_the_count_anew_but_not_a_moment_too_early() -> None:
    budget = RestartBudget()
    delays(budget, 5)
    assert budget.died(0, HEALTHY_AFTER - 0.1) == 8
    assert budget.died(0, HEALTHY_AFTER) == 0


def test_all_deaths_are_counted_for_the_status() -> None:
    budget = RestartBudget()
    delays(budget, 3)
    budget.died(0, 1000)
    budget.forgive()
    assert (budget.deaths, budget.deaths_in_a_row) == (4, 0)


@given(st.lists(st.none() | st.floats(0, 100)), st.sampled_from([0.0, 1.0]))
def test_no_delay_is_negative_or_above_15_s(lives: list[float | None], first: float) -> None:
    budget = RestartBudget(first)
    for healthy_for in lives:
        assert first <= budget.died(0, healthy_for) <= MAX_DELAY


def test_a_million_deaths_overflow_nothing() -> None:
    assert RestartBudget(1.0, deaths_in_a_row=10**6).died(0, None) == MAX_DELAY


@given(st.integers(1, 30), st.floats(0, 1), st.floats(0, 1))
def test_chance_moves_a_delay_within_its_step_and_never_below_the_step_before(
    deaths: int, chance: float, other: float
) -> None:
    now, before = RestartBudget(1.0, deaths_in_a_row=deaths + 1), RestartBudget(1.0, deaths_in_a_row=deaths)
    assert now.delay(chance) >= min(before.delay(other), MAX_DELAY / 2)
    assert now.delay(0.0) <= now.delay(chance) <= now.delay(1.0)


def test_slots_that_die_together_do_not_start_together() -> None:
    assert RestartBudget(deaths_in_a_row=4).delay(0.1) != RestartBudget(deaths_in_a_row=4).delay(0.9)


def test_the_deaths_of_the_last_minute_are_counted_apart_from_those_in_a_row() -> None:
    budget = RestartBudget()
    for now in (0.0, 40.0, 80.0, 90.0):
        budget.died(now, HEALTHY_AFTER)
    assert budget.deaths_in_a_row == 1
    assert budget.deaths_within(60, 100.0) == 2


def test_a_worker_that_dies_every_minute_is_replaced_at_once_and_worth_a_warning_every_ten_minutes() -> None:
    budget = RestartBudget()
    warnings = []
    for minute in range(40):
        assert budget.died(minute * 60.0, 59.0) == 0
        if budget.keeps_dying(minute * 60.0):
            warnings.append(minute)
    assert warnings == [9, 19, 29, 39]
