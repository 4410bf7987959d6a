"""Which listener of a SO_REUSEPORT group has which index. Pure.

The kernel numbers the sockets that listen, in the order in which they began to. Where one ceases the last one takes its
index, and when it begins again it is the last (`reuseport_detach_sock` and `reuseport_add_sock` in
net/core/sock_reuseport.c).
"""

from collections.abc import Callable, Iterable

FALL_BACK = 0xFFFFFFFF  # no listener has this index: the kernel takes its own hash

IndexOf = Callable[[int], int]  # of a slot's listener


def in_order(slot: int) -> int:
    """Its index as long as every listener of the group has gone on listening."""
    return slot - 1


class GroupOrder:
    """The slots of a group in the order of their listeners' indexes, as far as it is known."""

    def __init__(self, slots: Iterable[int]) -> None:
        self.slots = list(slots)

    def index_of(self, slot: int) -> int:
        """`FALL_BACK` for one whose index is not known."""
        return self.slots.index(slot) if slot in self.slots else FALL_BACK

    def ceased(self, slot: int) -> None:
        """Its listener does not listen any more; it may be said again."""
        if slot in self.slots:
            place, last = self.slots.index(slot), self.slots.pop()
            if last != slot:
                self.slots[place] = last

    def began(self, slot: int) -> None:
        """It listens again."""
        self.slots.append(slot)
