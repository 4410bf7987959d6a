"""The log's tracebacks: each one has to be of an exception that a test asked for. Runs in the test."""

import re

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


def ends_traceback(line: str) -> bool:
    """The line of the exception itself: "Name: text" at the margin, or behind the bars of an exception group."""
    return (
        re.match(r"[\s|+-]*[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning|Group|Disconnect)\b", line)
        is not None
    )
