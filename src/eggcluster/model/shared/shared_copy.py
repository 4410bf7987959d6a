"""Whether a worker's copy of the shared dictionary can be what it claims to be. Pure; runs in the agent.

A copy comes from another process. What it claims becomes the table of all workers, so it is checked first: a version
near 2^64 would make every later write fail, because the next version does not fit into a message.
"""

import math
from typing import NamedTuple

from eggcluster.errors import FrameError, SharedFull
from eggcluster.model.shared.shared_store import MAX_KEYS, MAX_TOTAL_BYTES, check_size, decode
from eggcluster.model.shared.shared_table import EPOCH_BITS, Change, TableCopy

# Versions that may be above those of the latest agent. The highest plausible version grows with each agent, so a copy
# that claims it spoils no later recovery, and it leaves room for more writes than any cluster will see.
MAX_WRITES = 1 << 52


class CopyMark(NamedTuple):
    """What a worker says of its copy: its version, and the generation of the agent that the copy comes from."""

    version: int
    generation: int


def problem_of_mark(mark: CopyMark, generation: int) -> str:
    """Return why the agent `generation` cannot believe a mark of a former agent's copy; "" if it can."""
    if not 0 < mark.generation < generation:
        return f"it claims to be from the agent of generation {mark.generation}; this one has {generation}"
    if not 0 <= mark.version < (generation << EPOCH_BITS) + MAX_WRITES:
        return f"its version, {mark.version}, is none that an agent has given"
    return ""


def problem_of_copy(copy: TableCopy, generation: int) -> str:
    """Return what is wrong with a copy that the agent `generation` was sent; "" if nothing is."""
    if problem := problem_of_mark(CopyMark(copy.version, copy.generation), generation):
        return problem
    if any(base > copy.version for base in copy.bases.values()):
        return "it claims to contain changes above its own version"
    if len(copy.entries) > MAX_KEYS:
        return f"it has {len(copy.entries)} keys; the limit is {MAX_KEYS}"
    for change in copy.entries:
        if problem := _problem_of_entry(change, copy.version):
            return f"{change[0]!r}: {problem}"
    size = sum(len(key.encode()) + len(entry.raw or b"") for key, entry in copy.entries)
    return f"it has {size} bytes; the limit is {MAX_TOTAL_BYTES}" if size > MAX_TOTAL_BYTES else ""


def _problem_of_entry(change: Change, version: int) -> str:
    key, entry = change
    if not 0 < entry.version <= version:
        return f"its version, {entry.version}, is above the copy's or below 1"
    if entry.expires is not None and not math.isfinite(entry.expires):
        return f"it expires at {entry.expires}, which is no instant"
    try:
        if entry.raw is None:
            return "it has no value"
        check_size(key, entry.raw)
        decode(entry.raw)
    except (SharedFull, FrameError) as error:
        return str(error)
    return ""
