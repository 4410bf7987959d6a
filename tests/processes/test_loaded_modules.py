"""A process does not load what it does not need."""

import subprocess
import sys

import pytest


def loaded_by(module: str) -> set[str]:
    """All modules in a fresh interpreter that has imported just this one."""
    code = f"import sys, {module}; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    return set(answer.stdout.split())


def heavy(loaded: set[str], names: set[str]) -> set[str]:
    return {name for name in loaded if any(name == n or name.startswith(f"{n}.") for n in names)}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        (
            "eggcluster.master.master",
            {"httptools", "uvicorn", "click", "psutil", "eggcluster.worker", "eggcluster.cli"},
        ),
        (
            "eggcluster.worker.lifecycle.worker_process",
            {
                "click",
                "psutil",
                "httptools",
                "eggcluster.master",
                "eggcluster.modes",
                "eggcluster.cli",
                "eggcluster.worker.sharing",
                "eggcluster.ipc.direct_connection",
            },
        ),
        ("eggcluster.worker.agent.agent_lifecycle", {"cronsim", "zoneinfo", "eggcluster.worker.schedule.cron"}),
        (
            "eggcluster.worker.app.app_lifecycle",
            {"cronsim", "zoneinfo", "eggcluster.worker.schedule.cron", "eggcluster.worker.schedule.scheduler"},
        ),
        ("eggcluster", {"asyncio", "msgspec", "eggcluster.errors"}),
        ("eggcluster.model.lives.supervisor", {"asyncio", "socket", "msgspec", "subprocess"}),
    ],
)
def test_a_process_does_not_load_what_it_does_not_need(module: str, unwanted: set[str]) -> None:
    assert not heavy(loaded_by(module), unwanted)


def test_the_options_value_is_cheap_to_import() -> None:
    costly = {"tomllib", "ssl", "difflib", "click", "psutil", "asyncio", "eggcluster.options.parse"}
    assert not loaded_by("eggcluster.options") & costly
