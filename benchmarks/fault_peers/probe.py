"""Owns the probe: who answers new connections, and when is a server whole again. Runs in the benchmark."""

import asyncio
import time
from dataclasses import dataclass, field

from tests.chaos.wire import Connection

INTERVAL = 0.1  # s between two salvos
SALVO = 4  # connections at once: while one worker answers, another one takes the next
ANSWER_LIMIT = 1.0  # s; a server that needs longer is not whole
IN_A_ROW = 24  # answers


@dataclass(frozen=True)
class Probe:
    """One request on a new connection. `worker` is 0 where no answer came in time."""

    began: float
    ended: float
    worker: int


@dataclass
class Prober:
    """Asks, again and again, on new connections."""

    port: int
    probes: list[Probe] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            self.probes += await asyncio.gather(*(ask(self.port) for _ in range(SALVO)))
            await asyncio.sleep(INTERVAL)

    def workers(self) -> set[int]:
        """Who answered in the last good row; empty if there is none."""
        row = self.probes[-IN_A_ROW:]
        seen = {probe.worker for probe in row}
        return seen if len(row) == IN_A_ROW and 0 not in seen else set()

    @property
    def is_answered(self) -> bool:
        """Whether anybody at all answered in the last row."""
        return any(probe.worker for probe in self.probes[-IN_A_ROW:])

    def whole_since(self, instant: float, workers: int, lost: set[int]) -> float | None:
        """The seconds from `instant` until so many workers, none of them `lost`, have answered in a good row."""
        after = [probe for probe in self.probes if probe.began >= instant]
        for start in range(len(after) - IN_A_ROW + 1):
            row = after[start : start + IN_A_ROW]
            seen: dict[int, float] = {}
            for probe in row:
                seen.setdefault(probe.worker, probe.ended)
            if 0 not in seen and len(seen) >= workers and not set(seen) & lost:
                return sorted(seen.values())[workers - 1] - instant
        return None


async def ask(port: int) -> Probe:
    began = time.monotonic()
    try:
        async with asyncio.timeout(ANSWER_LIMIT):
            connection = await Connection.open(port)
            try:
                await connection.send(b"GET /echo/probe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                await connection.answer()
            finally:
                connection.close()
        return Probe(began, time.monotonic(), int(connection.worker))
    except (OSError, EOFError, ValueError, RuntimeError):
        return Probe(began, time.monotonic(), 0)
