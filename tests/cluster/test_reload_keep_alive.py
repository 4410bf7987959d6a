"""Reloads under hundreds of keep-alive clients that never send anything twice: what is lost is counted one by one."""

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest

from tests.chaos.load import Load
from tests.chaos.project import served
from tests.chaos.test_reloads import reload
from tests.cluster.harness import Project

RELOADS = 20 if os.environ.get("EGG_LONG") else 3
# Some clients ask all the time, some now and then: a pause is up to twice its mean, and stays below the 1.3 s of
# silence after which a drain closes a connection (QUIET). In the long suite some ask so rarely that their connection is
# closed while they pause: one of them may be sending in that moment (RFC 9112, 9.3.1), if the machine is busy.
CLIENTS: Sequence[str] = ("keep-alive=60/0.1", "keep-alive=120/0.55", *(["keep-alive=120/1.6"] if RELOADS > 3 else []))


@pytest.mark.timeout(300)
def test_no_keep_alive_client_loses_a_request_in_a_reload(project: Project) -> None:
    cluster = served(project, workers=2)
    with Load(urlsplit(cluster.address).port or 0, project.folder / "tally", 1, tuple(CLIENTS)) as load:
        reload(cluster, RELOADS)
        tally = load.stop()
    print(f"{dict(tally.counts)}, {dict(tally.notes)}")  # noqa: T201
    assert tally.failures == []
    # How many depends on the machine: a busy one lets the clients send less. Without any, the reloads met no client.
    assert tally.notes["keep-alive connections that were told to close"] >= RELOADS
