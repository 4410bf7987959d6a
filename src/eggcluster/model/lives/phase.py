"""The phases of a cluster in their order, and the exit codes. Pure; runs in the shell, the master and all workers."""

from enum import IntEnum


class Phase(IntEnum):
    """Where the cluster is in its life; it only moves forward. `word` is what the status shows."""

    AGENT_BOOT = 1
    APPS_BOOT = 2
    SERVING = 3
    APPS_STOP = 4
    AGENT_STOP = 5
    STOPPED = 6

    @property
    def word(self) -> str:
        return {
            Phase.AGENT_BOOT: "starting the agent",
            Phase.APPS_BOOT: "starting the app workers",
            Phase.SERVING: "serving",
            Phase.APPS_STOP: "stopping the app workers",
            Phase.AGENT_STOP: "stopping the agent",
            Phase.STOPPED: "stopped",
        }[self]


class ExitCode(IntEnum):
    """The exit codes of docs/signals.md."""

    CLOSED = 0
    FAILED = 1
    BAD_OPTIONS = 2
    # An alias: of two equal numbers an IntEnum makes one member, so `ExitCode.CLOSE_TIMEOUT is ExitCode.BAD_OPTIONS`,
    # and its name is BAD_OPTIONS. Never tell the two apart by the code.
    CLOSE_TIMEOUT = 2
    MASTER_VANISHED = 110
