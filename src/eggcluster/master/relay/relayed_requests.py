"""Requests that wait for their answer: who asked, and who has to answer. Pure bookkeeping. Runs in the master."""

from collections.abc import Iterator

from eggcluster.master.relay.link import Link

MAX_OPEN = 65_536  # requests of one asker: beyond it he has long stopped waiting, and forgot to say so

Key = tuple[int, int]  # the asker's address, and his number for the request


class RelayedRequests:
    """Bounded: an asker with too many open requests opens no more."""

    def __init__(self) -> None:
        self._open: dict[Key, tuple[Link, Link]] = {}  # who asked, who has to answer

    def open(self, key: Key, asker: Link, receiver: Link) -> bool:
        """`receiver` is to get a request of `asker`; False where the asker has too many already."""
        if asker.open_requests >= MAX_OPEN:
            return False
        asker.open_requests += 1
        self._open[key] = (asker, receiver)
        return True

    def answered(self, key: Key, receiver: Link) -> Link | None:
        """An answer came from `receiver`: who waits for it; None where nobody does, or another one should answer."""
        found = self._open.get(key)
        if found is None or found[1] is not receiver:
            return None
        return self._close(key)[0]

    def cancelled(self, key: Key) -> Link | None:
        """The asker does not wait any more: who would have answered, None where nobody has the request."""
        return self._close(key)[1] if key in self._open else None

    def gone(self, link: Link) -> list[tuple[Link, int]]:
        """`link` is gone. Gives the askers that wait for it in vain, with their numbers for the requests."""
        theirs = [key for key, pair in self._open.items() if link in pair]
        closed = [(self._close(key)[0], key[1]) for key in theirs]
        return [(asker, request_id) for asker, request_id in closed if asker is not link]

    def _close(self, key: Key) -> tuple[Link, Link]:
        pair = self._open.pop(key)
        pair[0].open_requests -= 1
        return pair

    def __iter__(self) -> Iterator[Key]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)
