"""Reloads under load: no request fails, and none takes much longer than the slowest ones do anyway."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from eggcluster.kernel.unix_socket import connect_unix
from tests.chaos.load import Load
from tests.chaos.project import served
from tests.chaos.tally import Tally
from tests.cluster.harness import Launched, Project

LONG = bool(os.environ.get("EGG_LONG"))
ROUNDS = 20 if LONG else 2  # each: a while without a reload to compare with, then reloads
RELOADS = 5  # in each round
# Seconds without a reload in each round; beside the ordinary suite as many as the reloads take: the slowest of as many
# answers can be compared too, which says how much of it is the machine's.
NORMAL = 15.0 if LONG else 5.0
TIMES = 3  # the contract's: the slowest answer, as a multiple of the normal p99.9
# Seconds; what a machine that others use may add to one answer. The ordinary suite does not measure this.
FLOOR = 0.3 if LONG else 3.0
LOAD = ("one-shot=8/0.08", "keep-alive=8/0.04", "stream=2/0.2", "upload=2/0.2", "websocket=2/0.2")


@pytest.mark.timeout(1200)
def test_no_request_fails_and_none_waits_while_all_workers_are_replaced_again_and_again(project: Project) -> None:
    cluster = served(project, workers=2)
    quiet, busy = [], []  # (from, to)
    with Load(urlsplit(cluster.address).port or 0, project.folder / "tally", 1, LOAD) as load:
        time.sleep(1)  # every client has begun
        for _ in range(ROUNDS):
            quiet.append(span(lambda: time.sleep(NORMAL)))
            busy.append(span(lambda: reload(cluster, RELOADS)))
        tally = load.stop()
    normal, meanwhile = within(quiet, tally), within(busy, tally)
    p999, slowest = percentile(normal, 0.999), meanwhile[-1]
    print(  # noqa: T201
        f"{ROUNDS * RELOADS} reloads in {sum(to - since for since, to in busy):.1f}s: "
        f"{dict(sorted(tally.counts.items()))}, {dict(tally.notes)}; "
        f"normal: {describe(normal)}; meanwhile: {describe(meanwhile)}; slowest : normal p99.9 = {slowest / p999:.2f}, "
        f"without a reload {normal[-1] / p999:.2f}"
    )
    assert tally.failures == []
    assert [worker["generation"] for worker in (cluster.status() or {})["workers"]] == [ROUNDS * RELOADS + 1] * 2
    assert slowest < max(TIMES * p999, FLOOR)


def span(act: Callable[[], object]) -> tuple[float, float]:
    """From when to when it lasted."""
    began = time.monotonic()
    act()
    return began, time.monotonic()


def within(spans: list[tuple[float, float]], tally: Tally) -> list[float]:
    """How long the answers that came in one of the spans took, in order."""
    return sorted(took for at, took in tally.prompt if any(since < at < to for since, to in spans))


def reload(cluster: Launched, times: int) -> None:
    """What `eggcluster reload` does, without the half second of CPU that a Python takes to start beside the load."""
    (path,) = Path(cluster.environ["EGG_RUNTIME_DIR"]).glob("*/control.sock")
    for _ in range(times):
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
