"""Which slot is a client's own: rendezvous hashing over its address, as a function and as a BPF program. Pure.

Every slot gives every client a number; the client belongs to the slot that gives it the greatest. So a slot that comes
or goes moves only its own clients, spread evenly over the others, and brings the same ones back (Thaler and
Ravishankar, 1998: "highest random weight").
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
    in_order,
)

_WORD = 0xFFFFFFFF
# The finaliser of MurmurHash3 (32 bits, public domain): every bit of the input changes half of the output's.
_FIRST, _SECOND = 0x85EBCA6B, 0xC2B2AE35
_GOLDEN = 0x9E3779B1  # 2**32 / the golden ratio, made odd: slots' seeds far from each other
_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address in IPv6's clothes: RFC 4291, section 2.5.5.2

_KEY, _GREATEST, _INDEX = 0, 1, 2  # cells of the program's memory
_IPV4_SOURCE = SKF_NET_OFF + 12
_IPV6_SOURCE = SKF_NET_OFF + 8


def mix(number: int) -> int:
    """Stir the 32 bits of `number`; no two numbers give the same."""
    number ^= number >> 16
    number = number * _FIRST & _WORD
    number ^= number >> 13
    number = number * _SECOND & _WORD
    return number ^ number >> 16


def client_key(address: bytes) -> int:
    """What of a client's address counts, from its 4 or 16 bytes: of IPv4 all, of IPv6 the /64 that one host has."""
    if address.startswith(_MAPPED):
        address = address[12:]
    first = int.from_bytes(address[:4])
    return first if len(address) == 4 else mix(first) + int.from_bytes(address[4:8]) & _WORD


def home_of(key: int, slots: Iterable[int]) -> int:
    """The one of `slots` (at least one, in rising order) that this client belongs to."""
    return max(slots, key=lambda slot: mix(key ^ _seed(slot)))


def affinity_program(slots: Sequence[int], index_of: IndexOf = in_order) -> list[Instruction]:
    """`home_of` as the kernel runs it: gives the index of the listener of the client's own slot.

    A client's numbers differ from slot to slot (`mix` is one to one, the seeds differ), so there are no ties.
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
    """A ^= A >> bits."""
    return [Instruction(TAX), Instruction(RSH_K, bits), Instruction(XOR_X)]


_MIX = [
    *_xor_shifted(16),
    Instruction(MUL_K, _FIRST),
    *_xor_shifted(13),
    Instruction(MUL_K, _SECOND),
    *_xor_shifted(16),
]


def _load_key() -> list[Instruction]:
    """M[_KEY] = `client_key` of who sent the packet, by its IP version."""
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
