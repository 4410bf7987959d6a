"""Classic BPF, as much of it as the steering programs need: instructions, and their layout for the kernel. Pure."""

import struct
from collections.abc import Sequence
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

SKF_NET_OFF = 0xFFF00000  # offsets from here on count from the network header; plain ones from the TCP payload


class Instruction(NamedTuple):
    """One `struct sock_filter`."""

    code: int
    k: int = 0
    jump_true: int = 0
    jump_false: int = 0


def encode(program: Sequence[Instruction]) -> bytes:
    """The program as the kernel takes it, an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", i.code, i.jump_true, i.jump_false, i.k) for i in program)
