"""The load generator, a process of its own: `python -m tests.chaos.load PORT REPORT SEED PATIENCE NAME=COUNT/PAUSE …`.

It runs until its standard input ends, lets each client finish what it is at, and writes its tally to REPORT.
"""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import uvloop

from tests.chaos.clients import KINDS, Client
from tests.chaos.lasting_clients import LASTING
from tests.chaos.tally import Tally

ROOT = Path(__file__).parents[2]
PATIENCE = 40.0  # seconds; more than a slot waits at most for its next try, boot and all
USUAL = ("one-shot=6/0.15", "keep-alive=6/0.1", "stream=3/0.2", "upload=2/0.2", "websocket=3/0.2")  # 120 requests/s
LONG = ("endless-watching=2/0.3", "endless-listening=2/0.3", "endless-deaf=1/0.3", "ws-slow=2/0.3", "ws-mute=1/0.3")


class Load:
    """The load from outside: started, and stopped for its tally.

    `kinds`: "name=clients/seconds of pause"; `patience`: seconds that an answer may take.
    """

    def __init__(
        self, port: int, report: Path, seed: int, kinds: tuple[str, ...] = USUAL, patience: float = PATIENCE
    ) -> None:
        self._report = report
        self._patience = patience
        given = map(str, (port, report, seed, patience))
        command = [sys.executable, "-m", "tests.chaos.load", *given, *kinds]
        self._log = report.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> Tally:
        """Let every client finish; gives what they have seen."""
        self._process.communicate(timeout=self._patience + 20)
        assert self._process.returncode == 0, self._log.read_text()[-5000:]
        return Tally.from_plain(json.loads(self._report.read_text()))

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def assert_running(self) -> None:
        assert self._process.poll() is None, self._log.read_text()[-5000:]


def clients(port: int, tally: Tally, seed: int, kinds: list[str]) -> list[Client]:
    found = []
    for kind in kinds:
        name, _, rate = kind.partition("=")
        count, _, pause = rate.partition("/")
        for number in range(int(count)):
            dice = random.Random(f"{seed} {name} {number}")
            found.append({**KINDS, **LASTING}[name](port, tally, dice, float(pause)))
    return found


async def main(port: int, tally: Tally, seed: int, patience: float, kinds: list[str]) -> None:
    everybody = clients(port, tally, seed, kinds)
    for client in everybody:
        client.patience = patience + client.stay
    running = [asyncio.create_task(client.run()) for client in everybody]
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([told, *running], return_when=asyncio.FIRST_COMPLETED)  # a client that ends has a bug
    for client in everybody:
        client.stopping = True
    await asyncio.gather(*running)


if __name__ == "__main__":
    seen = Tally()
    uvloop.run(main(int(sys.argv[1]), seen, int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:]))
    Path(sys.argv[2]).write_text(json.dumps(seen.to_plain()))
