"""What starts workers, whatever the start mode. Runs in the master."""

from collections.abc import Callable, Sequence

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.modes.worker_handle import WorkerHandle

Start = Callable[[WorkerSpec, Sequence[int]], WorkerHandle]


class Starter:
    """Starts workers, by a function."""

    def __init__(self, function: Start) -> None:
        self._function = function

    def start(self, spec: WorkerSpec, fds: Sequence[int]) -> WorkerHandle:
        """Start a worker that gets the file descriptors `fds`; OSError if the system refuses."""
        return self._function(spec, fds)

    @property
    def is_pending(self) -> bool:
        """Whether this process may have children that it does not know yet, because they are being started."""
        return False

    @property
    def own_pids(self) -> set[int]:
        """The processes that help to start workers."""
        return set()

    def end_reload(self, *, failed: bool) -> None:
        """Note that a reload has ended."""

    async def end(self, limit: float) -> None:
        """End those processes, and wait for their end for `limit` seconds."""
