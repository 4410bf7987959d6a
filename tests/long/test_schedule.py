"""Ticks over minutes, while agent and workers are killed and replaced; and cron at length. Only with EGG_LONG."""

import os
import random

import pytest

from tests.cluster.harness import Project
from tests.cluster.test_schedule import troubled
from tests.unit.test_cron import compare

MINUTES = 4
EXPRESSIONS = 50_000

pytestmark = pytest.mark.skipif(not os.environ.get("EGG_LONG"), reason="the long suite: EGG_LONG=1")


@pytest.mark.timeout(MINUTES * 60 + 120)
def test_over_minutes_no_tick_comes_twice_and_none_overlap(project: Project) -> None:
    troubled(project, MINUTES * 60, seed=random.randrange(2**32))


@pytest.mark.timeout(900)
def test_tens_of_thousands_of_cron_expressions_come_when_another_implementation_says() -> None:
    compare(seed=random.randrange(2**32), count=EXPRESSIONS)
