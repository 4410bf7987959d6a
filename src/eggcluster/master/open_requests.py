"""Requests that wait for their answer: who asked, and who has to answer. Pure bookkeeping. Runs in the master."""

from collections.abc import Iterator

from eggcluster.ipc.frame import Frame
from eggcluster.master.link import Link

MAX_OPEN = 65_536  # requests of one asker: beyond it he has long stopped waiting, and forgot to say so

Key = tuple[int, int]  # the asker's address, and his number for the request


class OpenRequests:
    """Bounded: of an asker with too many open requests the oldest is forgotten, and its answer dropped."""

    def __init__(self) -> None:
        self._open: dict[Link, dict[Key, Link]] = {}  # by asker, the oldest first; the value has to answer

    def opened(self, frame: Frame, asker: Link, receiver: Link) -> None:
        """`receiver` has got a request of `asker`."""
        requests = self._open.setdefault(asker, {})
        if len(requests) >= MAX_OPEN:
            del requests[next(iter(requests))]
        requests[(frame.source, frame.request_id)] = receiver

    def answered(self, receiver: Link, frame: Frame) -> Link | None:
        """An answer came from `receiver`: who waits for it; None where nobody does, or another one should answer."""
        key = (frame.target_id, frame.request_id)
        for asker, requests in self._open.items():
            if asker.packed == frame.target_id and requests.get(key) is receiver:
                del requests[key]
                return asker
        return None

    def cancelled(self, frame: Frame) -> Link | None:
        """The asker does not wait any more: who would have answered, None where nobody has the request."""
        for asker, requests in self._open.items():
            if asker.packed == frame.source and (receiver := requests.pop((frame.source, frame.request_id), None)):
                return receiver
        return None

    def gone(self, link: Link) -> list[tuple[Link, int]]:
        """`link` is gone. Gives the askers that wait for it in vain, with their numbers for the requests."""
        self._open.pop(link, None)
        waiting = []
        for asker, requests in self._open.items():
            for key in [key for key, receiver in requests.items() if receiver is link]:
                del requests[key]
                waiting.append((asker, key[1]))
        return waiting

    def __iter__(self) -> Iterator[Key]:
        return (key for requests in self._open.values() for key in requests)

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))
