"""A small interpreter of classic BPF, for the programs that steering builds: what the kernel would return."""

import ipaddress
import struct
from collections.abc import Sequence

from eggcluster.model.steering.reuseport_program import (
    ADD_X,
    JMP_JA,
    JMP_JEQ_K,
    JMP_JGE_K,
    JMP_JGT_X,
    LD_B_ABS,
    LD_H_ABS,
    LD_H_IND,
    LD_IMM,
    LD_MEM,
    LD_W_ABS,
    LDX_B_MSH,
    LDX_MEM,
    MUL_K,
    RET_A,
    RET_K,
    RSH_K,
    SKF_NET_OFF,
    ST,
    TAX,
    XOR_K,
    XOR_X,
    Instruction,
)

_WORD = 0xFFFFFFFF


def packet_from(address: str, port: int = 1024, *, options: int = 0) -> bytes:
    """A SYN's IP header, with `options` words of IPv4 options, and the first bytes of its TCP header."""
    source = ipaddress.ip_address(address)
    tcp = struct.pack("!HH", port, 80)
    if source.version == 4:
        return bytes([0x45 + options]) + bytes(11) + source.packed + bytes(4 + 4 * options) + tcp
    return b"\x60" + bytes(7) + source.packed + bytes(16) + tcp


def run(program: Sequence[Instruction], packet: bytes) -> int:
    """What the kernel would return for `packet`, which starts at its network header."""
    a = x = at = 0
    memory: dict[int, int] = {}

    def load(offset: int, size: int) -> int:
        start = (offset & _WORD) - SKF_NET_OFF
        assert 0 <= start <= len(packet) - size, "outside of the headers the kernel would return 0"
        return int.from_bytes(packet[start : start + size])

    while True:
        code, k, jump_true, jump_false = program[at]
        assert 0 <= k <= _WORD
        at += 1
        match code:
            case _ if code == LD_IMM:
                a = k
            case _ if code == LD_MEM:
                a = memory[k]
            case _ if code == LDX_MEM:
                x = memory[k]
            case _ if code == ST:
                memory[k] = a
            case _ if code == TAX:
                x = a
            case _ if code == LD_W_ABS:
                a = load(k, 4)
            case _ if code == LD_H_ABS:
                a = load(k, 2)
            case _ if code == LD_B_ABS:
                a = load(k, 1)
            case _ if code == LD_H_IND:
                a = load(x + k, 2)
            case _ if code == LDX_B_MSH:
                x = 4 * (load(k, 1) & 15)
            case _ if code == ADD_X:
                a = a + x & _WORD
            case _ if code == MUL_K:
                a = a * k & _WORD
            case _ if code == RSH_K:
                a >>= k
            case _ if code == XOR_K:
                a ^= k
            case _ if code == XOR_X:
                a ^= x
            case _ if code == JMP_JA:
                at += k
            case _ if code == JMP_JEQ_K:
                at += jump_true if a == k else jump_false
            case _ if code == JMP_JGE_K:
                at += jump_true if a >= k else jump_false
            case _ if code == JMP_JGT_X:
                at += jump_true if a > x else jump_false
            case _ if code == RET_K:
                return k
            case _ if code == RET_A:
                return a
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")
