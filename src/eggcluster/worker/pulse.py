"""The pulse: says several times a second that the event loop moves, and what it has to do. Runs in every worker."""

import asyncio
import time
from collections.abc import Callable

from eggcluster.ipc.vital_record import VitalRecord
from eggcluster.model.vital_signs import BEAT_INTERVAL, VitalSigns
from eggcluster.worker.engines.engine import Load


class Pulse:
    """Beats from `start` on as long as the loop runs; a loop that stands still is one that is silent."""

    def __init__(self, record: VitalRecord, load: Callable[[], Load]) -> None:
        self._record = record
        self._load = load

    def start(self) -> None:
        """Beat for the first time, at once."""
        self._beat(time.monotonic())

    def _beat(self, due: float) -> None:
        now = time.monotonic()  # not the loop's own clock, which uvloop rounds to milliseconds
        self._record.write(VitalSigns(now, max(0.0, now - due), *self._load()))
        asyncio.get_running_loop().call_later(BEAT_INTERVAL, self._beat, now + BEAT_INTERVAL)
