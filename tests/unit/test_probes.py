"""What `/live` and `/ready` say in each phase."""

import pytest

from eggcluster.master.admin.probes import live, ready
from eggcluster.model.lives.phase import ExitCode, Phase

BEFORE = (Phase.AGENT_BOOT, Phase.APPS_BOOT)
AFTER = (Phase.APPS_STOP, Phase.AGENT_STOP, Phase.STOPPED)


@pytest.mark.parametrize("phase", Phase)
def test_the_master_is_live_unless_it_closes_in_error(phase: Phase) -> None:
    assert live(phase, ExitCode.CLOSED).status == 200
    assert live(phase, ExitCode.FAILED).status == (503 if phase in AFTER else 200)


@pytest.mark.parametrize("phase", [*BEFORE, *AFTER])
def test_a_cluster_that_does_not_serve_is_not_ready(phase: Phase) -> None:
    for is_leaving in (False, True):
        probe = ready(phase, is_leaving=is_leaving, is_open=4, wanted=1)
        assert (probe.status, probe.text) == (503, phase.word)


def test_as_many_slots_are_open_as_are_wanted() -> None:
    assert ready(Phase.SERVING, is_leaving=False, is_open=1, wanted=1).status == 200
    probe = ready(Phase.SERVING, is_leaving=False, is_open=1, wanted=2)
    assert (probe.status, probe.text) == (503, "1 app worker takes connections, 2 have to")
    assert ready(Phase.SERVING, is_leaving=False, is_open=0, wanted=1).status == 503


def test_a_cluster_that_leaves_is_not_ready_though_it_serves() -> None:
    assert ready(Phase.SERVING, is_leaving=True, is_open=4, wanted=1).status == 503
