"""The log: each traceback is of an exception that a test asked for, each line of an application is there once.

Runs in the test.
"""

import re
from collections import Counter
from pathlib import Path

from tests.chaos.served.said_format import NUMBER, PADDING

SAID = re.compile(r"said (\d+-\d+) (\d+) ")
WHOLE = re.compile(r"\S+ \S+ INFO \d+ \[\S+\] said \d+-\d+ (\d+) .* (=*)")
ASKED_FOR = re.compile(r"chaos asked for it")


def unexpected_tracebacks(log: str) -> list[str]:
    """The tracebacks that end in another exception than those asked for."""
    found: list[str] = []
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if "Traceback (most recent call last)" in line:
            end = next((n for n in range(number + 1, len(lines)) if ends_traceback(lines[n])), len(lines) - 1)
            if not ASKED_FOR.search(lines[end]):
                found.append("\n".join(lines[number : end + 1]))
    return found


def misprinted(log: str, folder: Path) -> list[str]:
    """The applications' own lines that the log lacks, has twice or has in pieces; `folder` has their counts.

    A line that was logged stands there once. One that a killed process had begun, and not logged yet, may be missing.
    """
    seen = Counter(SAID.findall(log))
    wrong = [f"torn: {line}" for line in log.splitlines() if "said " in line and not is_whole(line)]
    for path in folder.iterdir():
        begun, logged = (number for (number,) in NUMBER.iter_unpack(path.read_bytes()))
        for number in range(1, begun + 1):
            times = seen.pop((path.name, str(number)), 0)
            if times != 1 and (number <= logged or times > 1):
                wrong.append(f"{times} times: {path.name} {number}")
    return wrong + [f"never said: {' '.join(line)}" for line in seen]


def is_whole(line: str) -> bool:
    found = WHOLE.fullmatch(line)
    return found is not None and len(found[2]) == int(found[1]) % PADDING


def ends_traceback(line: str) -> bool:
    """The line of the exception itself: "Name: text" at the margin, or behind the bars of an exception group."""
    return (
        re.match(r"[\s|+-]*[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning|Group|Disconnect)\b", line)
        is not None
    )
