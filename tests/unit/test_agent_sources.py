"""Whether a reload is the agent's, too."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from eggcluster.master.agent_sources import AgentSources
from eggcluster.master.event import ReloadRequested
from eggcluster.master.inbox import Inbox
from tests.unit.conftest import Run


class NoThread(ThreadPoolExecutor):
    """As where the number of threads is limited: `pids.max`, `ulimit -u`."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> NoReturn:
        raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("executor", [ThreadPoolExecutor, NoThread])
@pytest.mark.parametrize("size", [0, 1], ids=["unchanged", "changed"])
def test_the_sources_are_compared_also_where_no_thread_can_be_started(
    run: Run, tmp_path: Path, executor: type[ThreadPoolExecutor], size: int
) -> None:
    source = tmp_path / "agent.py"
    source.touch()

    async def work() -> None:
        asyncio.get_running_loop().set_default_executor(executor())
        inbox = Inbox()
        sources = AgentSources(inbox)
        sources.stamps = ((str(source), os.stat(source).st_mtime_ns, size),)
        sources.compare(None)
        assert await inbox.next(asyncio.get_running_loop().time() + 5) == ReloadRequested(bool(size))

    run(work())
