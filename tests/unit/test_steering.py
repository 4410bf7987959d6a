"""The steering program, run by a small interpreter of the instructions that it uses."""

import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from eggcluster.model.steering import (
    ALU_MOD_K,
    FALL_BACK,
    JMP_JEQ_K,
    LD_W_ABS,
    RET_K,
    SKF_AD_RANDOM,
    Instruction,
    encode,
    steer_to,
)


def run(program: Sequence[Instruction], number: int) -> int:
    """What the kernel would return, with `number` as its random one."""
    accumulator = at = 0
    while True:
        code, jump_true, jump_false, k = program[at]
        at += 1
        if code == LD_W_ABS:
            assert k == SKF_AD_RANDOM
            accumulator = number
        elif code == ALU_MOD_K:
            accumulator %= k
        elif code == JMP_JEQ_K:
            at += jump_true if accumulator == k else jump_false
        elif code == RET_K:
            return k
        else:
            raise AssertionError(f"no such instruction: {code:#x}")


def test_without_a_slot_the_kernel_decides() -> None:
    assert run(steer_to([]), 7) == FALL_BACK


@given(st.sets(st.integers(1, 64), min_size=1), st.integers(0, 2**32 - 1))
def test_only_the_given_slots_are_chosen(slots: set[int], number: int) -> None:
    assert run(steer_to(sorted(slots)), number) + 1 in slots


def test_the_slots_are_chosen_evenly() -> None:
    numbers = random.Random(1)
    chosen = Counter(run(steer_to([1, 3, 4]), numbers.getrandbits(32)) for _ in range(30_000))
    assert set(chosen) == {0, 2, 3}
    assert all(9_500 < count < 10_500 for count in chosen.values())


def test_an_instruction_has_the_kernels_layout() -> None:
    assert encode([Instruction(0x15, 1, 2, 0x01020304)]) == b"\x15\x00\x01\x02\x04\x03\x02\x01"
