"""Affinity: each client has a slot of its own, by a hash of its address. Pure; runs in the master.

This is rendezvous hashing, as a function and as a BPF program. Each pair of slot and client has a hash; the client
belongs to the slot with the greatest one. When a slot goes, only its own clients move, evenly to the other slots. When
it comes back, the same clients return to it (Thaler and Ravishankar, 1998: "highest random weight").
"""

from collections.abc import Iterable, Sequence

from eggcluster.model.steering.reuseport_program import (
    ADD_X,
    JMP_JA,
    JMP_JEQ_K,
    JMP_JGT_X,
    LD_B_ABS,
    LD_IMM,
    LD_MEM,
    LD_W_ABS,
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
    IndexOf,
    Instruction,
    original_index,
)

_WORD = 0xFFFFFFFF
# The finaliser of MurmurHash3 (32 bits, public domain): each input bit changes half of the output bits.
_FIRST, _SECOND = 0x85EBCA6B, 0xC2B2AE35
_GOLDEN = 0x9E3779B1  # 2**32 / the golden ratio, made odd: it keeps the seeds of slots far apart
_MAPPED = bytes(10) + b"\xff\xff"  # prefix of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2)

_KEY, _GREATEST, _INDEX = 0, 1, 2  # cells of the program's memory
_IPV4_SOURCE = SKF_NET_OFF + 12
_IPV6_SOURCE = SKF_NET_OFF + 8


def mix(number: int) -> int:
    """Return a hash of 32 bits, different for each `number` of 32 bits."""
    number ^= number >> 16
    number = number * _FIRST & _WORD
    number ^= number >> 13
    number = number * _SECOND & _WORD
    return number ^ number >> 16


def client_key(address: bytes) -> int:
    """Return the hash key of an address of 4 or 16 bytes: of IPv4 the whole, of IPv6 the /64 that one host has."""
    if address.startswith(_MAPPED):
        address = address[12:]
    first = int.from_bytes(address[:4])
    return first if len(address) == 4 else mix(first) + int.from_bytes(address[4:8]) & _WORD


def home_of(key: int, slots: Iterable[int]) -> int:
    """Return which of `slots` (at least one, in rising order) the client with this key belongs to."""
    return max(slots, key=lambda slot: mix(key ^ _seed(slot)))


def affinity_program(slots: Sequence[int], index_of: IndexOf = original_index) -> list[Instruction]:
    """Return `home_of` as a program for the kernel; its result is the index of the listener of the client's own slot.

    The hashes of a client differ from slot to slot (`mix` is one to one, the seeds differ), so there are no ties.
    """
    if len(slots) == 1:
        return [Instruction(RET_K, index_of(slots[0]))]
    program = _load_key()
    for position, slot in enumerate(slots):
        program += [Instruction(LD_MEM, _KEY), Instruction(XOR_K, _seed(slot)), *_MIX]
        if position:
            program += [Instruction(LDX_MEM, _GREATEST), Instruction(JMP_JGT_X, 0, 0, 3)]
        program += [Instruction(ST, _GREATEST), Instruction(LD_IMM, index_of(slot)), Instruction(ST, _INDEX)]
    return [*program, Instruction(LD_MEM, _INDEX), Instruction(RET_A)]


def _seed(slot: int) -> int:
    return mix(slot * _GOLDEN & _WORD)


def _xor_shifted(bits: int) -> list[Instruction]:
    """Return instructions for A ^= A >> bits."""
    return [Instruction(TAX), Instruction(RSH_K, bits), Instruction(XOR_X)]


_MIX = [
    *_xor_shifted(16),
    Instruction(MUL_K, _FIRST),
    *_xor_shifted(13),
    Instruction(MUL_K, _SECOND),
    *_xor_shifted(16),
]


def _load_key() -> list[Instruction]:
    """Return instructions for M[_KEY] = `client_key` of the packet's sender, by IP version."""
    ipv6 = [
        Instruction(LD_W_ABS, _IPV6_SOURCE),
        *_MIX,
        Instruction(TAX),
        Instruction(LD_W_ABS, _IPV6_SOURCE + 4),
        Instruction(ADD_X),
        Instruction(JMP_JA, 1),
    ]
    return [
        Instruction(LD_B_ABS, SKF_NET_OFF),
        Instruction(RSH_K, 4),
        Instruction(JMP_JEQ_K, 6, 0, len(ipv6)),
        *ipv6,
        Instruction(LD_W_ABS, _IPV4_SOURCE),
        Instruction(ST, _KEY),
    ]
