"""Fixtures of the contract: a project with the application of all modes, and clusters of each mode that runs here."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from eggcluster import Cluster
from tests.cluster.harness import Launched, Project
from tests.waiting import DEADLINE, wait_until

MODES = ("process", "thread", *(("interpreter",) if sys.version_info >= (3, 14) else ()))
PLACES = ("agent", "app#1", "app#2")
VISIT = 120  # seconds that an idle connection of a visitor stays open: a new one may be to another worker
Answer = dict[str, Any]


class Site(Project):
    """The application of all modes, in one of them."""

    def __init__(self, folder: Path, mode: str) -> None:
        super().__init__(folder)
        self.mode = mode
        shutil.copytree(Path(__file__).with_name("app"), folder, dirs_exist_ok=True)

    @property
    def shares_process(self) -> bool:
        return self.mode != "process"

    @property
    def shares_modules(self) -> bool:
        return self.mode == "thread"

    def append(self, name: str, code: str) -> "Site":
        """Add to a module."""
        with (self.folder / f"{name}.py").open("a") as module:
            module.write(f"\n\n{code}\n")
        return self

    def launch(self, *arguments: str) -> Launched:
        """`eggcluster start` in this mode, not waited for."""
        return self.start("--start-mode", self.mode, "--keep-alive-timeout", str(VISIT), *arguments)

    def marks(self, file: str) -> list[str]:
        """The lines that `mark` has written."""
        path = self.folder / file
        return path.read_text().splitlines() if path.exists() else []


def sites(folder: Path, mode: str) -> Iterator[Site]:
    """A site for one test; afterwards everything is ended, and nothing may be left."""
    with contextlib.closing(site := Site(folder, mode)):
        yield site


@pytest.fixture(params=MODES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    yield from sites(tmp_path, request.param)


class Lab:
    """One cluster of two workers for many tests, and the loop in which its parent lives."""

    def __init__(self, site: Site, runner: asyncio.Runner, cluster: Cluster) -> None:
        self.site = site
        self.cluster = cluster
        self.messenger = cluster.messenger
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(asyncio.wait_for(work, DEADLINE))

    async def ask(self, to: str | int, source: str, given: Any = None) -> Any:
        """Execute `source` in a worker, by its messenger."""
        return await self.messenger.request("run", [source, given], to=to, timeout=DEADLINE)

    def tell(self, to: str | int, source: str, given: Any = None) -> Any:
        """The same, for a test that does nothing else meanwhile."""
        return self.run(self.ask(to, source, given))

    def everywhere(self, source: str) -> Answer:
        """What each of agent and workers says to it."""
        return {place: self.tell(place, source) for place in PLACES}

    def wait(self, to: str, condition: str) -> None:
        """Wait until a worker finds `condition` true."""
        self.tell(to, f"while not ({condition}): await asyncio.sleep(0.01)")


def labs(folder: Path, mode: str, **options: Any) -> Iterator[Lab]:
    """A running cluster of two workers, closed and looked after afterwards."""
    for site in sites(folder, mode):
        environ = pytest.MonkeyPatch()
        environ.setenv("EGG_RUNTIME_DIR", site.environ["EGG_RUNTIME_DIR"])
        chosen = {"workers": 2, "port": 0, "base_dir": str(folder), "start_mode": mode, **options}
        with (folder / "cluster.log").open("wb") as log, asyncio.Runner() as runner:
            cluster = Cluster("app:app", **chosen)
            runner.run(cluster.start(output=log.fileno()))
            environ.undo()
            try:
                yield Lab(site, runner, cluster)
            finally:
                assert runner.run(cluster.close()) == 0
        assert "BUG" not in (folder / "cluster.log").read_text()


FORGET = """
me = globals().get("app") or agent
for name, value in vars(me.local).items():
    if isinstance(value, list): value.clear()
"""


@pytest.fixture(scope="session", params=MODES)
def running_lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from labs(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def lab(running_lab: Lab) -> Lab:
    """A lab in which no worker remembers another test."""
    running_lab.everywhere(FORGET)
    return running_lab


class Visitor:
    """One keep-alive connection to the worker in one slot."""

    def __init__(self, cluster: Launched, slot: int) -> None:
        self._address = cluster.address
        self._client = wait_until(lambda: self._reach(slot), f"a connection to slot {slot}")

    def _reach(self, slot: int) -> httpx.Client | None:
        """Connections are spread over the slots: try until one is in the right one."""
        client = httpx.Client(base_url=self._address, timeout=DEADLINE, limits=httpx.Limits(keepalive_expiry=VISIT))
        if client.get("/").json()["slot"] == slot:
            return client
        client.close()
        return None

    def tell(self, source: str) -> Any:
        """Execute it in the worker; gives what it returns."""
        return self._client.post("/run", content=source).raise_for_status().json()["result"]

    def get(self, path: str = "/") -> httpx.Response:
        return self._client.get(path)

    def start(self, source: str) -> None:
        """Let the worker do it as soon as it has answered."""
        self.tell(f"asyncio.get_running_loop().call_later(0.05, lambda: {source})")

    def close(self) -> None:
        self._client.close()
