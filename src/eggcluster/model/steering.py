"""Which slot gets a new connection: a small classic BPF program, built from the slots' states. Pure.

The kernel runs it for each new connection of the SO_REUSEPORT group (socket(7), SO_ATTACH_REUSEPORT_CBPF); what it
returns is the index of a listener in the group, and anything out of range makes the kernel fall back to its own hash.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

# <linux/bpf_common.h>, <linux/filter.h>
LD_W_ABS = 0x20
ALU_MOD_K = 0x94
JMP_JEQ_K = 0x15
RET_K = 0x06
SKF_AD_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM: a fresh 32-bit random number

FALL_BACK = 0xFFFFFFFF  # no listener has this index


class Instruction(NamedTuple):
    """One `struct sock_filter`."""

    code: int
    jump_true: int
    jump_false: int
    k: int

    def encode(self) -> bytes:
        return struct.pack("=HBBI", *self)


def steer_to(slots: Sequence[int]) -> list[Instruction]:
    """The program that spreads new connections at random over the listeners of `slots` (counted from 1).

    Listener `slot - 1` is the slot's: they were put to listen in this order. Without a slot the kernel decides, and
    connections wait where its hash puts them.
    """
    if not slots:
        return [Instruction(RET_K, 0, 0, FALL_BACK)]
    program = [Instruction(LD_W_ABS, 0, 0, SKF_AD_RANDOM), Instruction(ALU_MOD_K, 0, 0, len(slots))]
    for number, slot in enumerate(slots[:-1]):
        program += [Instruction(JMP_JEQ_K, 0, 1, number), Instruction(RET_K, 0, 0, slot - 1)]
    return [*program, Instruction(RET_K, 0, 0, slots[-1] - 1)]


def encode(program: Sequence[Instruction]) -> bytes:
    """The program as the kernel takes it, an array of `struct sock_filter`."""
    return b"".join(instruction.encode() for instruction in program)
