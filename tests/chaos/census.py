"""The census: what a cluster has of processes, descriptors, sockets, files and memory. Runs in the test."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster.harness import Launched


@dataclass(frozen=True)
class Census:
    """A cluster at rest. Two of them are equal when nothing was left behind between them."""

    master_fds: dict[str, int]  # kind of descriptor -> how many
    agent_fds: dict[str, int]
    worker_fds: list[dict[str, int]]
    processes: list[str]  # titles
    files: list[str]

    @classmethod
    def of(cls, cluster: Launched) -> "Census":
        agent, workers = cluster.agent(), cluster.workers()
        assert agent is not None
        runtime = Path(cluster.environ["EGG_RUNTIME_DIR"])
        return cls(
            master_fds=kinds_of_fds(cluster.pid),
            agent_fds=kinds_of_fds(agent),
            worker_fds=[kinds_of_fds(workers[slot]) for slot in sorted(workers)],
            processes=sorted(process.name() for process in cluster.family()),
            files=sorted(str(path.relative_to(runtime)) for path in runtime.rglob("*")),
        )


def kinds_of_fds(pid: int) -> dict[str, int]:
    """socket, pipe, anon_inode:[pidfd], a file's path: each with its number."""
    kinds: Counter[str] = Counter()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        kinds[kind_of(target)] += 1
    return dict(sorted(kinds.items()))


def kind_of(target: str) -> str:
    """socket:[4711] is a socket; the file that counts a process's own log lines is another one in each process."""
    kind = target.partition(":[")[0]
    return kind.rpartition("/")[0] if "/said/" in kind else kind


class Scale:
    """The master's memory, weighed again and again."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.weights: list[int] = []

    def weigh(self) -> None:
        self.weights.append(self._process.memory_info().rss)

    def growth(self) -> int:
        """Bytes that it has now, at rest, more than at the least in the first third of its life. What a stopped watcher
        or an absent agent makes it hold is given back by then; what leaks is not.

        The first tenth is not counted: whatever is imported or allocated at its first use comes then.
        """
        counted = self.weights[len(self.weights) // 10 :]
        return int(self._process.memory_info().rss) - min(counted[: max(1, len(counted) // 3)])
