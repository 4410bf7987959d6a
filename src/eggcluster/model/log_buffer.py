"""Log lines that wait to be written, up to a bound, in order. Pure; runs in the master and all workers."""

from collections import deque
from collections.abc import Callable


class LogBuffer:
    """Keeps lines as bytes, up to `max_bytes`. Further lines are lost. In their place stands one line, which `notice`
    makes from their number."""

    def __init__(self, max_bytes: int, notice: Callable[[int], bytes]) -> None:
        self._max_bytes = max_bytes
        self._notice = notice
        self._lines: deque[bytes] = deque()
        self.size = 0  # bytes
        self.lost = 0  # lines, since the last notice

    def put(self, line: bytes) -> None:
        """Keep the line, or count it as lost."""
        if self.lost and self.size <= self._max_bytes // 2:  # not at the first free byte: one notice instead of many
            self.add_notice()
        if self.lost or self.size + len(line) > self._max_bytes:
            self.lost += 1
        else:
            self._append(line)

    def add_notice(self) -> None:
        """Append the notice of the lost lines, if there are any."""
        if self.lost:
            lost, self.lost = self.lost, 0
            self._append(self._notice(lost))

    def head(self, size: int) -> bytes:
        """Return the oldest lines: whole lines of `size` bytes together, or a longer one alone; b"" if empty."""
        lines: list[bytes] = []
        total = 0
        for line in self._lines:
            total += len(line)
            if lines and total > size:
                break
            lines.append(line)
        return b"".join(lines)

    def remove(self, size: int) -> None:
        """Remove the first `size` bytes: they have been written."""
        self.size -= size
        while size:
            line = self._lines.popleft()
            if len(line) > size:
                self._lines.appendleft(line[size:])
                return
            size -= len(line)

    def drop_all(self) -> None:
        """Count all lines as lost: they can never be written."""
        self.lost += len(self._lines)
        self._lines.clear()
        self.size = 0

    def clear(self) -> None:
        """Remove all lines, and count nothing as lost."""
        self._lines.clear()
        self.size = self.lost = 0

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self.size += len(line)
