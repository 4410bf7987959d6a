"""The clusters of one pytest session: which run, which are kept for other tests, and what they have logged.

Runs in the user's tests.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from eggcluster.errors import EggclusterError
from eggcluster.testing.running_cluster import RunningCluster, run_cluster

SCOPES = ("function", "session")


class ClusterPool:
    """Runs clusters with the session's `defaults`, which each call's own options override."""

    def __init__(self, defaults: Mapping[str, Any], scope: str) -> None:
        self._defaults = defaults
        self._scope = scope
        self._running: dict[RunningCluster, int] = {}  # and the length of the log when the current test began
        self._kept: dict[str, RunningCluster] = {}
        self._ends = contextlib.ExitStack()

    @contextlib.contextmanager
    def run(self, **options: Any) -> Iterator[RunningCluster]:
        """Run a cluster for the time of a `with` block. A boot or a close that fails is a failure of the test, with the
        log. A close that fails after the block has raised is not reported: the first error is."""
        end = contextlib.ExitStack()
        with _as_failure("the cluster did not start"):
            cluster = end.enter_context(run_cluster({**self._defaults, **options}))
        self._running[cluster] = 0
        try:
            yield cluster
        except BaseException:
            with contextlib.suppress(EggclusterError):
                self._end(cluster, end)
            raise
        with _as_failure("the cluster did not close in order"):
            self._end(cluster, end)

    def _end(self, cluster: RunningCluster, end: contextlib.ExitStack) -> None:
        del self._running[cluster]
        end.close()

    @contextlib.contextmanager
    def lend(self, *, scope: str | None = None, **options: Any) -> Iterator[RunningCluster]:
        """Run a cluster as `run` does, or with the scope "session" take the one of equal options, which runs until
        `close`."""
        scope = self._scope if scope is None else scope
        if scope not in SCOPES:
            pytest.fail(f'eggcluster: the scope {scope!r} is unknown; use "function" or "session"', pytrace=False)
        if scope == "function":
            with self.run(**options) as cluster:
                yield cluster
            return
        key = repr(sorted(options.items()))
        if key not in self._kept:
            self._kept[key] = self._ends.enter_context(self.run(**options))
        yield self._kept[key]

    def begin_test(self) -> None:
        """Note what is in the logs: the report of the next test shows what comes after it."""
        for cluster in self._running:
            self._running[cluster] = len(cluster.log)

    def logged(self) -> str:
        """Return what the running clusters have logged since the current test began."""
        logs = {cluster: cluster.log[begin:] for cluster, begin in self._running.items()}
        texts = [text if len(logs) == 1 else f"{cluster.url}\n{text}" for cluster, text in logs.items() if text.strip()]
        return "\n".join(texts)

    def close(self) -> None:
        """Close the clusters that were kept."""
        self._ends.close()


@contextlib.contextmanager
def _as_failure(what: str) -> Iterator[None]:
    """Let an error fail the test with its text alone: the traceback would show this plugin."""
    try:
        yield
    except EggclusterError as error:
        raise pytest.fail.Exception(f"{what}: {error}", pytrace=False) from None  # else both are shown
