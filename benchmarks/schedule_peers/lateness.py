"""Owns how late a tick is, and the load beside it: the same for all contestants. Runs in each of them."""

import asyncio
import os
import time

INTERVAL = 0.1  # s
BUSY, IDLE = 0.002, 0.002  # s; half of the loop's time, in slices as a request's handler takes them


def note(name: str, late: float) -> None:
    """One line for a tick that began `late` seconds after its instant. One write, so that none is torn."""
    file = os.open(os.environ["LATENESS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{name} {late:.9f}\n".encode())
    os.close(file)


def late_by_grid(anchor: float, interval: float) -> float:
    """How long ago the last instant of the grid was; one that begins just before its instant is early, below 0."""
    late = (time.time() - anchor) % interval
    return late if late < interval * 0.9 else late - interval


async def load() -> None:
    """What else the event loop has to do, where the benchmark asks for it."""
    while os.environ.get("LOAD"):
        end = time.perf_counter() + BUSY
        while time.perf_counter() < end:
            pass
        await asyncio.sleep(IDLE)
