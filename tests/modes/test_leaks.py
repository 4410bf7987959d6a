"""Deaths and reloads leave nothing in the master's process, in which workers may live."""

import os
import signal
from pathlib import Path

from tests.cluster.harness import Launched
from tests.modes.conftest import Site
from tests.modes.test_lives import generation, visit
from tests.waiting import wait_until

PAGE = 4096


def census(cluster: Launched) -> tuple[int, int]:
    """The file descriptors and the threads of the master's process."""
    proc = Path(f"/proc/{cluster.pid}")
    return len(os.listdir(proc / "fd")), len(os.listdir(proc / "task"))


def resident(cluster: Launched) -> int:
    """Its memory in bytes."""
    return int(Path(f"/proc/{cluster.pid}/statm").read_text().split()[1]) * PAGE


def settled(cluster: Launched, limits: tuple[int, int]) -> bool:
    """Whether there is no more than that; the last connections and threads take a moment to end."""
    held, threads = census(cluster)
    return held <= limits[0] and threads <= limits[1]


def use(cluster: Launched) -> None:
    """Requests to both workers, also such as need a thread."""
    for slot in (1, 2):
        with visit(cluster, slot) as visitor:
            assert visitor.get("/plain").status_code == 200
            assert visitor.tell("return await asyncio.to_thread(lambda: app.slot)") == slot


def test_deaths_and_reloads_leave_no_file_descriptor_and_no_thread(site: Site) -> None:
    cluster = site.launch("--workers", "2").wait_ready()
    for _ in range(2):
        use(cluster)
        cluster.command("reload").check_returncode()
    use(cluster)
    first, memory = census(cluster), resident(cluster)
    for number in range(4, 5 if site.mode == "process" else 12):
        use(cluster)
        cluster.command("reload").check_returncode()
        assert all(generation(cluster, slot, number) for slot in (1, 2))
    for death in (1, 2, 3) if site.shares_process else (1,):
        with visit(cluster, 1) as dying:
            dying.start("sys.exit(1)")
        wait_until(lambda death=death: generation(cluster, 1, number + death), "it is replaced")  # type: ignore[misc]
    use(cluster)
    wait_until(lambda: settled(cluster, first), f"no more than {first}; it was {census(cluster)}", 10)
    if site.mode != "interpreter":  # Python keeps some megabytes of each interpreter that has ended
        assert resident(cluster) < memory + 20 * 1024 * 1024
    cluster.signal(signal.SIGTERM)
    assert cluster.wait_exit() == 0
