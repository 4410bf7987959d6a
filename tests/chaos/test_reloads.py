"""Reloads under load: no request fails, and none takes much longer than the slowest ones do anyway."""

import json
import math
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from eggcluster.kernel.unix_socket import connect_unix
from tests.chaos.load import Load
from tests.chaos.project import served
from tests.cluster.harness import Launched, Project

LONG = bool(os.environ.get("EGG_LONG"))
RELOADS = 100 if LONG else 10
NORMAL = 60.0 if LONG else 10.0  # seconds of load without reloads, to compare with
TIMES = 3  # the contract's: the slowest answer, as a multiple of the normal p99.9
FLOOR = 0.3  # seconds; less than this nobody's test can hold a shared machine to, the long suite prints the figures
LOAD = ("one-shot=8/0.08", "keep-alive=8/0.04", "stream=2/0.2", "upload=2/0.2", "websocket=2/0.2")


@pytest.mark.timeout(600)
def test_no_request_fails_and_none_waits_while_all_workers_are_replaced_again_and_again(project: Project) -> None:
    cluster = served(project, workers=2)
    with Load(urlsplit(cluster.address).port or 0, project.folder / "tally", 1, LOAD) as load:
        time.sleep(1)  # every client has begun
        began = time.monotonic()
        time.sleep(NORMAL)
        first = time.monotonic()
        for _ in range(RELOADS):
            reload(cluster)
        last = time.monotonic()
        tally = load.stop()
    normal = sorted(seconds for end, seconds in tally.prompt if began < end < first)
    meanwhile = sorted(seconds for end, seconds in tally.prompt if first < end < last)
    p999, slowest = percentile(normal, 0.999), meanwhile[-1]
    print(  # noqa: T201
        f"{RELOADS} reloads in {last - first:.1f}s: {dict(sorted(tally.counts.items()))}, {dict(tally.notes)}; normal: "
        f"{describe(normal)}; meanwhile: {describe(meanwhile)}; slowest : normal p99.9 = {slowest / p999:.2f}"
    )
    assert tally.failures == []
    assert [worker["generation"] for worker in (cluster.status() or {})["workers"]] == [RELOADS + 1] * 2
    assert slowest < max(TIMES * p999, FLOOR)


def reload(cluster: Launched) -> None:
    """What `eggcluster reload` does, without the half second of CPU that a Python takes to start beside the load."""
    (path,) = Path(cluster.environ["EGG_RUNTIME_DIR"]).glob("*/control.sock")
    with connect_unix(str(path)) as sock, sock.makefile("rwb") as stream:
        stream.write(b'{"command": "reload"}\n')
        stream.flush()
        answers = [json.loads(line) for line in stream]
    assert "done" in answers[-1], answers


def percentile(ordered: list[float], share: float) -> float:
    """The smallest of them that `share` of all do not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1]


def describe(ordered: list[float]) -> str:
    parts = [f"p{100 * share:g} {1000 * percentile(ordered, share):.1f}ms" for share in (0.5, 0.99, 0.999, 1)]
    return f"{len(ordered)} answers, {', '.join(parts)}"
