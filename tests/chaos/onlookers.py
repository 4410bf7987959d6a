"""The onlookers: `eggcluster events` and `messages` that run beside the faults, and are stopped. Runs in the test."""

import random
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.harness import Launched
from tests.waiting import wait_until

MOST = 4
COMMANDS = (["events"], ["messages"], *3 * [["messages", "--payload"]])


class Onlookers:
    """Some come and are stopped at once or later (Ctrl-Z, a pager); one, the witness, reads all the time."""

    def __init__(self, cluster: Launched, dice: random.Random) -> None:
        self._cluster, self._dice = cluster, dice
        self._running: list[subprocess.Popen[bytes]] = []
        self._report = cluster.folder / "witness"
        self._witness = self._start(["events"], self._report)

    def come(self) -> None:
        """One more; it takes the place of the oldest one if there are too many."""
        if len(self._running) >= MOST:
            end(self._running.pop(0))
        self._running.append(self._start(self._dice.choice(COMMANDS), Path("/dev/null")))

    def stop_one(self) -> None:
        """Stop one where it is: before it has asked for anything, or in the middle."""
        if self._running:
            self._dice.choice(self._running).send_signal(signal.SIGSTOP)

    def seen(self) -> str:
        """What the witness has seen so far."""
        return self._report.read_text()

    def assert_witness_sees(self, text: str, after: str) -> None:
        """The witness sees `text` after what it had seen before, now or soon."""
        wait_until(lambda: text in self.seen()[len(after) :], f"the witness sees {text!r}")
        assert self._witness.poll() is None

    def leave(self) -> None:
        """All of them end, those that are stopped without a word."""
        for process in [*self._running, self._witness]:
            end(process)
        self._running.clear()

    def _start(self, arguments: list[str], output: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "eggcluster", *arguments]
        with output.open("wb") as file:
            return subprocess.Popen(
                command, cwd=self._cluster.folder, env=self._cluster.environ, stdout=file, stderr=subprocess.DEVNULL
            )


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
