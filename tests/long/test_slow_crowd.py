"""Two thousand slow clients, and a hundred that read nothing of 200 MB. Only with EGG_LONG."""

import os

import pytest

from tests.cluster.harness import Project
from tests.cluster.test_slow_crowd import assert_bystanders_do_not_notice

SENDERS = 2000
READERS = 34  # for each of three kinds of response


@pytest.mark.skipif(not os.environ.get("EGG_LONG"), reason="the long suite: EGG_LONG=1")
@pytest.mark.timeout(300)
def test_two_thousand_slow_clients_cost_the_others_nothing(project: Project) -> None:
    assert_bystanders_do_not_notice(project, SENDERS, READERS)
