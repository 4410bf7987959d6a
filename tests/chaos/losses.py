"""The losses of the shared dictionary that the log tells of, and whether they were inevitable. Runs in the test.

The contract: an acknowledged write is not lost as long as one worker lives that has a copy, and a loss is an error in
the log. So a loss is excused if every worker that had started before the agent died was gone, too.
"""

import re
from collections.abc import Iterator
from datetime import datetime

STARTED = re.compile(r"\[master\] app_worker#\d+:(\d+) started")
GONE = re.compile(r"\[master\] app_worker#\d+:(\d+) (?:died|exited|failed while closing|did not close)")
AGENT_GONE = re.compile(r"\[master\] agent_worker#1:\d+ (?:died|exited|failed while closing|did not close)")
LOST = re.compile(r"\[agent_worker\] the shared dictionary is lost")
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
BETWEEN = 1.0  # seconds; the agent and the master do not write their lines in the order of what happened


def losses(log: str) -> tuple[list[float], list[str]]:
    """The instants (of the wall clock) of the losses that were inevitable, and the lines of those that were not."""
    inevitable, needless = [], []
    gone = {found[1]: at for at, line in lines_of(log) if (found := GONE.search(line))}
    started: dict[str, float] = {}
    agent_gone = 0.0
    for at, line in lines_of(log):
        if found := STARTED.search(line):
            started[found[1]] = at
        elif AGENT_GONE.search(line):
            agent_gone = at
        elif LOST.search(line):
            had_copies = [pid for pid, since in started.items() if since < agent_gone - BETWEEN]
            survived = [pid for pid in had_copies if gone.get(pid, at + 2 * BETWEEN) > at + BETWEEN]
            inevitable += [] if survived else [at]
            needless += [f"{line}; {', '.join(survived)} lived"] if survived else []
    return inevitable, needless


def lines_of(log: str) -> Iterator[tuple[float, str]]:
    for line in log.splitlines():
        if STAMP.match(line):
            yield datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp(), line
