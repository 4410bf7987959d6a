"""Addressing: the seats behind a frame's target. Runs in the master."""

import random
from collections.abc import Collection, Iterable

from eggcluster.ipc.frame import Frame
from eggcluster.model.message import Target
from eggcluster.model.role import AGENT, PARENT, Address, Role, app


class Addressing:
    """Knows the seats of a cluster. `live` are those in which somebody sits now."""

    def __init__(self, slots: int, live: Collection[Address]) -> None:
        self._apps = {slot: app(slot) for slot in range(1, slots + 1)}
        self._live = live

    def seats(self, frame: Frame) -> Iterable[Address]:
        """Where a frame goes; nowhere for a target without a seat, such as a slot that is none."""
        match frame.target:
            case Target.AGENT:
                return [AGENT]
            case Target.PARENT:
                return [PARENT]
            case Target.APPS:
                return self._apps.values()
            case Target.ALL:
                return [AGENT, *self._apps.values()]
            case Target.SLOT if frame.target_id in self._apps:
                return [self._apps[frame.target_id]]
            case Target.RANDOM:
                listening = [address for address in self._live if address.role is Role.APP]
                return [random.choice(listening)] if listening else []
            case _:
                return []
