"""The pytest plugin: fixtures for a whole cluster, and for a view without one. Runs in the user's tests.

pytest loads this module in every run, so it imports nothing but pytest. What a fixture needs is loaded at its first
use. docs/testing.md is its manual.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eggcluster.testing.cluster_pool import ClusterPool
    from eggcluster.testing.recording_messenger import SentMessage as SentMessage
    from eggcluster.testing.recording_messenger import SentMessages as SentMessages
    from eggcluster.testing.running_cluster import RunningCluster as RunningCluster
    from eggcluster.testing.unit_test_context import run_lifespan as run_lifespan

_HOMES = {
    "RunningCluster": "running_cluster",
    "SentMessage": "recording_messenger",
    "SentMessages": "recording_messenger",
    "run_lifespan": "unit_test_context",
}
_MARK = "eggcluster(app, *, scope, **options): options of the `cluster` fixture, such as workers, start_mode, environ"
_INI = {
    "app": 'the application that the `cluster` fixture runs, as "module:name"',
    "base_dir": "its directory; by default pytest's rootdir",
    "workers": "the number of app workers; by default 2",
    "start_mode": 'what a worker is: "process", "thread", "interpreter"; by default as in a start without a test',
    "scope": '"function" (the default): a cluster for each test; "session": one for all tests of equal options',
}
_POOL = pytest.StashKey["ClusterPool"]()

ClusterFactory = Callable[..., "AbstractContextManager[RunningCluster]"]


def __getattr__(name: str) -> Any:
    """PEP 562: the public names that fixtures need at their first use."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def pytest_addoption(parser: pytest.Parser) -> None:
    for name, text in _INI.items():
        parser.addini(f"eggcluster_{name}", f"eggcluster: {text}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARK)


@pytest.fixture(scope="session")
def cluster_factory(request: pytest.FixtureRequest) -> Iterator[ClusterFactory]:
    """Run clusters of any number and for any time: `with cluster_factory(app="app:app", workers=3) as cluster:`.

    The options are those of `eggcluster.Cluster`, with `environ`, variables to add to the environment. For fixtures of
    your own, of any scope.
    """
    yield _pool(request.config).run
    _pool(request.config).close()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, cluster_factory: ClusterFactory) -> "Iterator[RunningCluster]":
    """A running cluster of the application, with the options of the test's `eggcluster` marks; the nearest one wins."""
    options: dict[str, Any] = {}
    for mark in request.node.iter_markers("eggcluster"):
        options = {**dict(zip(("app",), mark.args, strict=False)), **mark.kwargs, **options}
    with _pool(request.config).lend(**options) as running:
        yield running


@pytest.fixture
def sent_messages() -> "Iterator[SentMessages]":
    """Test a view without a cluster: what the messenger is given to send is recorded in this list, and the lifespan of
    an `Application` runs its `on_start` and `on_close`."""
    from eggcluster.testing.unit_test_context import UnitTestContext
    from eggcluster.worker.context.current import use_outside

    with use_outside(context := UnitTestContext()):
        yield context.sent


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if (pool := item.config.stash.get(_POOL, None)) is not None:
        pool.begin_test()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    pool = item.config.stash.get(_POOL, None)
    if pool is not None and call.excinfo is not None and (text := pool.logged()):
        item.add_report_section(call.when, "cluster log", text)
    return (yield)


def _pool(config: pytest.Config) -> "ClusterPool":
    """Return the session's clusters."""
    if _POOL not in config.stash:
        from eggcluster.testing.cluster_pool import ClusterPool

        options: dict[str, Any] = {"base_dir": str(config.rootpath)}
        options |= {name: value for name in _INI if (value := config.getini(f"eggcluster_{name}"))}
        scope = options.pop("scope", "function")
        config.stash[_POOL] = ClusterPool(_converted(options), scope)
    return config.stash[_POOL]


def _converted(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with those that are numbers as such: an ini file has text alone."""
    workers = options.get("workers", "")
    return {**options, "workers": int(workers)} if workers.isdigit() else options
