"""Classic BPF for a SO_REUSEPORT group: instructions, and the index of each listener. Pure; runs in the master.

The kernel numbers the listening sockets of a group in the order in which they began to listen. When one stops
listening, the last one takes its index; when it listens again, it is the last (`reuseport_detach_sock` and
`reuseport_add_sock` in net/core/sock_reuseport.c).
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS, <linux/bpf_common.h>

# <linux/bpf_common.h>, <linux/filter.h>. A and X are the two registers, M the scratch memory, k the constant.
LD_IMM = 0x00  # A = k
LD_MEM = 0x60  # A = M[k]
LDX_MEM = 0x61  # X = M[k]
LD_W_ABS = 0x20  # A = the word at k
LD_B_ABS = 0x30  # A = the byte at k
LD_H_ABS = 0x28  # A = the half word at k
LD_H_IND = 0x48  # A = the half word at X + k
LDX_B_MSH = 0xB1  # X = 4 * (the byte at k & 15): the length of an IPv4 header
ST = 0x02  # M[k] = A
ADD_X = 0x0C
MUL_K = 0x24
RSH_K = 0x74
XOR_K = 0xA4
XOR_X = 0xAC
JMP_JA = 0x05
JMP_JEQ_K = 0x15  # jumps count from the next instruction
JMP_JGE_K = 0x35
JMP_JGT_X = 0x2D
TAX = 0x07  # X = A
RET_K = 0x06
RET_A = 0x16

SKF_NET_OFF = 0xFFF00000  # offsets from here on count from the network header, smaller ones from the TCP payload


class Instruction(NamedTuple):
    """One `struct sock_filter`."""

    code: int
    k: int = 0
    jump_true: int = 0
    jump_false: int = 0


def encode(program: Sequence[Instruction]) -> bytes:
    """Return the program as the kernel takes it: an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", i.code, i.jump_true, i.jump_false, i.k) for i in program)


FALL_BACK = 0xFFFFFFFF  # no listener has this index: the kernel falls back to its own hash

IndexOf = Callable[[int], int]  # slot -> the index of its listener


def original_index(slot: int) -> int:
    """Return the index of a slot's listener if no listener of the group has ever stopped listening."""
    return slot - 1


class GroupOrder:
    """The slots of a group in the order of their listeners' indexes, as far as that order is known."""

    def __init__(self, slots: Iterable[int]) -> None:
        self.slots = list(slots)

    def index_of(self, slot: int) -> int:
        """Return the index of a slot's listener, `FALL_BACK` if it is not known."""
        return self.slots.index(slot) if slot in self.slots else FALL_BACK

    def remove(self, slot: int) -> None:
        """Note that the slot's listener has stopped listening; a second call does nothing."""
        if slot in self.slots:
            index, last = self.slots.index(slot), self.slots.pop()
            if last != slot:
                self.slots[index] = last

    def append(self, slot: int) -> None:
        """Note that the slot's listener listens again."""
        self.slots.append(slot)
