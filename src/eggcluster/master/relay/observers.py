"""Observers of the relayed frames, as `eggcluster messages` is one. Runs in the master."""

import logging
from collections.abc import Callable, Iterable

from eggcluster.ipc.frame import Frame
from eggcluster.master.relay.link import Link
from eggcluster.master.relay.routing import ShortCuts

Observer = Callable[[Link, Frame], None]

_logger = logging.getLogger("eggcluster.master")


class Observers:
    """Those to which every frame is shown. While there is one, frames come one by one and take no short cuts; `links`
    holds all links at any time."""

    def __init__(self, links: Iterable[Link], short_cuts: ShortCuts) -> None:
        self._links = links
        self._short_cuts = short_cuts
        self._all: list[Observer] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, observer: Observer) -> None:
        """Call `observer` with every frame, one by one, until `remove`; it must not raise."""
        self._all.append(observer)
        self._read_runs(False)

    def remove(self, observer: Observer) -> None:
        """Stop calling `observer`."""
        self._all.remove(observer)
        self._read_runs(not self._all)

    def show(self, sender: Link, frame: Frame) -> None:
        """Call all observers with a frame of `sender`. What one of them raises is logged."""
        for observer in self._all:
            try:
                observer(sender, frame)
            except Exception:  # a value whose text cannot be made: the message goes on its way all the same
                _logger.exception("BUG: a message could not be shown")

    def _read_runs(self, runs: bool) -> None:
        self._short_cuts.clear()
        for link in self._links:
            if link.channel is not None:
                link.channel.reader.runs = runs
