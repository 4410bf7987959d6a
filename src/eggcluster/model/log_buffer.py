"""Log lines that wait until somebody reads them: bounded, in order, and with a word about what was lost."""

from collections import deque
from collections.abc import Callable


class LogBuffer:
    """Lines as bytes, `room` of them in all. What comes above that is lost; the gap is told by a line in its place,
    which `notice` makes of the number of lost lines."""

    def __init__(self, room: int, notice: Callable[[int], bytes]) -> None:
        self._room = room
        self._notice = notice
        self._lines: deque[bytes] = deque()
        self.size = 0  # bytes
        self.lost = 0  # lines, since the last notice

    def put(self, line: bytes) -> None:
        """Keep the line, or lose it."""
        if self.lost and self.size <= self._room // 2:  # not at the first byte of room: one notice, not hundreds
            self.tell_lost()
        if self.lost or self.size + len(line) > self._room:
            self.lost += 1
        else:
            self._append(line)

    def tell_lost(self) -> None:
        """Say what was lost, behind what is kept."""
        if self.lost:
            lost, self.lost = self.lost, 0
            self._append(self._notice(lost))

    def head(self, size: int) -> bytes:
        """The oldest lines: whole ones of `size` bytes together, or a longer one alone. b"" if there are none."""
        lines: list[bytes] = []
        total = 0
        for line in self._lines:
            total += len(line)
            if lines and total > size:
                break
            lines.append(line)
        return b"".join(lines)

    def took(self, size: int) -> None:
        """The first `size` bytes of it are written."""
        self.size -= size
        while size:
            line = self._lines.popleft()
            if len(line) > size:
                self._lines.appendleft(line[size:])
                return
            size -= len(line)

    def lose_all(self) -> None:
        """Nobody will ever read these."""
        self.lost += len(self._lines)
        self._lines.clear()
        self.size = 0

    def forget(self) -> None:
        """As new."""
        self._lines.clear()
        self.size = self.lost = 0

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self.size += len(line)
