"""Balance: spreads new connections over the open slots, in shares that follow the load. Pure; runs in the master."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from eggcluster.model.steering.reuseport_program import (
    ADD_X,
    FALL_BACK,
    JMP_JA,
    JMP_JEQ_K,
    JMP_JGE_K,
    LD_B_ABS,
    LD_H_ABS,
    LD_H_IND,
    LD_W_ABS,
    LDX_B_MSH,
    LDX_MEM,
    MUL_K,
    RET_K,
    RSH_K,
    SKF_NET_OFF,
    ST,
    IndexOf,
    Instruction,
    original_index,
)

EVEN = 32  # the weight of each slot while all have equally many connections: the finest step is 3 % of a share
LEAST = 4  # an open slot always gets some: its count may be wrong, and only new connections correct it
# If one client opens many connections, its ports rise by 2, 4, … or 16 at random on Linux (secure_seq.c, and
# `get_random_u32_below(8)` in inet_hashtables.c, since 2022): on average 4.5 pairs of ports between connections.
PORT_PAIRS = 4.5
RUN = 2  # connections in a row to one slot before the next slot's turn; see `slot_at`

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B1  # 2**32 / the golden ratio, made odd
_START = 0  # cell of the program's memory


def weigh(connections: Mapping[int, int], arrivals: float) -> dict[int, int]:
    """Return the weight of each slot by its number of connections: more for a slot that has fewer.

    A slot that has ten connections less than the mean gets ten more of the next `arrivals` than the others. `arrivals`
    is how many connections come in the time in which a difference is to be made up for. If connections come and go
    quickly, `arrivals` is large and the weights stay even: otherwise a slot with few connections at one moment would be
    overloaded at the next.
    """
    mean = sum(connections.values()) / len(connections)
    coming = max(arrivals / len(connections), 16.0, mean / 4)  # per slot; at least 16: a burst may follow a quiet time
    return {slot: max(LEAST, round(EVEN * (1 + (mean - own) / coming))) for slot, own in connections.items()}


def slot_at(weights: Mapping[int, int], turn: int) -> int:
    """Return the slot at position `turn` of a circle of 65,536, on which each slot has an arc of its weight.

    The kernel's program goes round that circle with the client's port: one round takes two connections for each slot.
    That spreads the connections that one client opens in a row much more evenly than a random choice would (32
    connections on two slots: at most 20 on one of them in 98 of 100 cases instead of 89). The connections of many
    clients are spread as evenly as at random.
    """
    return next(slot for slot, end in _ends(weights) if turn < end)


def spread_program(weights: Mapping[int, int], index_of: IndexOf = original_index) -> list[Instruction]:
    """Return the program that goes round the circle. Without a slot, the kernel's own hash decides."""
    if not weights:
        return [Instruction(RET_K, FALL_BACK)]
    program = _load_turn(len(weights))
    for slot, end in _ends(weights):
        program += [Instruction(JMP_JGE_K, end, 1, 0), Instruction(RET_K, index_of(slot))]
    del program[-2]  # the last arc needs no comparison
    return program


def turn_of(port: int, source: int, slots: int) -> int:
    """Return the position of a connection from `port`; `source` is the last 32 bits of the client's address."""
    return ((port >> 1) * _stride(slots) + source * _GOLDEN & _WORD) >> 16


def _stride(slots: int) -> int:
    return int(2**32 / (PORT_PAIRS * RUN * slots))


def _ends(weights: Mapping[int, int]) -> Iterable[tuple[int, int]]:
    """Return each slot with the position at which its arc ends."""
    total = sum(weights.values())
    return zip(weights, (65_536 * part // total for part in accumulate(weights.values())), strict=True)


def _load_turn(slots: int) -> list[Instruction]:
    """Return instructions for A = `turn_of` the packet's sender."""
    ipv6 = _source_and_port(SKF_NET_OFF + 20, [Instruction(LD_H_ABS, SKF_NET_OFF + 40)])
    ipv4 = _source_and_port(SKF_NET_OFF + 12, [Instruction(LDX_B_MSH, SKF_NET_OFF), Instruction(LD_H_IND, SKF_NET_OFF)])
    ipv6.append(Instruction(JMP_JA, len(ipv4)))
    return [
        Instruction(LD_B_ABS, SKF_NET_OFF),
        Instruction(RSH_K, 4),
        Instruction(JMP_JEQ_K, 6, 0, len(ipv6)),
        *ipv6,
        *ipv4,
        Instruction(RSH_K, 1),
        Instruction(MUL_K, _stride(slots)),
        Instruction(LDX_MEM, _START),
        Instruction(ADD_X),
        Instruction(RSH_K, 16),
    ]


def _source_and_port(source: int, load_port: Sequence[Instruction]) -> list[Instruction]:
    """Return instructions for M[_START] = the client's starting position, A = its port."""
    return [Instruction(LD_W_ABS, source), Instruction(MUL_K, _GOLDEN), Instruction(ST, _START), *load_port]
