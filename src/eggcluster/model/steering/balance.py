"""How new connections are spread over the open slots: shares that follow the load, and the program for them. Pure."""

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
    in_order,
)

EVEN = 32  # what each slot's weight is while all have as many connections: the finest step is 3 % of a share
LEAST = 4  # an open slot always gets some: a count may be wrong, and what gets nothing is never seen to work
# Where one client opens many connections, Linux makes its ports go up by 2, 4, … or 16, at random (secure_seq.c and
# `get_random_u32_below(8)` in inet_hashtables.c, since 2022): 4.5 pairs of ports from one connection to the next.
PORT_PAIRS = 4.5
RUN = 2  # connections in a row to one slot before the next slot's turn; see `slot_at`

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B1  # 2**32 / the golden ratio, made odd
_START = 0  # cell of the program's memory


def weigh(connections: Mapping[int, int], arrivals: float) -> dict[int, int]:
    """The weight of each slot by its number of connections: evenly, and more for those who have fewer.

    A slot that lacks ten connections gets ten more of the next `arrivals` than the others: so many come in the time
    in which a difference is to be made up for. Where they come and go quickly, `arrivals` are many and the weights
    stay even: a slot that was favoured for a moment's count would be the crowded one at the next look, and so on.
    """
    mean = sum(connections.values()) / len(connections)
    coming = max(arrivals / len(connections), 16.0, mean / 4)  # for each; the least: a burst may follow silence
    return {slot: max(LEAST, round(EVEN * (1 + (mean - own) / coming))) for slot, own in connections.items()}


def slot_at(weights: Mapping[int, int], turn: int) -> int:
    """Whose turn it is at the place `turn` of a circle of 65,536, on which each slot has an arc of its weight.

    The kernel's program goes round that circle with the client's port: one round takes two connections for each
    slot. That spreads what one client opens in a row much more evenly than dice do (32 connections on two slots: at
    most 20 on one of them in 98 of 100 cases instead of 89), and the connections of many clients as well as dice.
    """
    return next(slot for slot, end in _ends(weights) if turn < end)


def spread_program(weights: Mapping[int, int], index_of: IndexOf = in_order) -> list[Instruction]:
    """The program that goes round the circle; without any slot the kernel's own hash decides where they wait."""
    if not weights:
        return [Instruction(RET_K, FALL_BACK)]
    program = _load_turn(len(weights))
    for slot, end in _ends(weights):
        program += [Instruction(JMP_JGE_K, end, 1, 0), Instruction(RET_K, index_of(slot))]
    del program[-2]  # the last arc needs no question
    return program


def turn_of(port: int, source: int, slots: int) -> int:
    """The place on the circle of a connection from `port`; `source` is the last 32 bits of the client's address."""
    return ((port >> 1) * _stride(slots) + source * _GOLDEN & _WORD) >> 16


def _stride(slots: int) -> int:
    return int(2**32 / (PORT_PAIRS * RUN * slots))


def _ends(weights: Mapping[int, int]) -> Iterable[tuple[int, int]]:
    """Each slot with the place at which its arc ends."""
    total = sum(weights.values())
    return zip(weights, (65_536 * part // total for part in accumulate(weights.values())), strict=True)


def _load_turn(slots: int) -> list[Instruction]:
    """A = `turn_of` the packet's sender."""
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
    """M[_START] = where this client starts, A = its port."""
    return [Instruction(LD_W_ABS, source), Instruction(MUL_K, _GOLDEN), Instruction(ST, _START), *load_port]
