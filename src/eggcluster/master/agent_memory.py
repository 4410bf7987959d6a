"""What the agent wants its successor to know: kept here, unread, because the master outlives it. Runs in the master."""

import logging
from typing import Any

from eggcluster.errors import FrameError

# Keys and values together. It travels in the boot order, which has to fit a socket's buffer; a task takes some 60.
MAX_BYTES = 64 * 1024

_logger = logging.getLogger("eggcluster.master")


class AgentMemory:
    """Values by key; a new value takes the place of the old one. Bounded: what does not fit is not kept."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self._bytes = 0
        self._complained = False

    def keep(self, details: dict[str, Any]) -> None:
        """Keep what the agent reports; FrameError for another shape."""
        key, value = details.get("key"), details.get("value")
        if not isinstance(key, str) or not isinstance(value, bytes):
            raise FrameError("a report to remember has a key (str) and a value (bytes)")
        size = self._bytes + self._size(key, value) - self._size(key, self.kept.get(key))
        if size <= MAX_BYTES:
            self.kept[key], self._bytes = value, size
        elif not self._complained:
            self._complained = True
            _logger.warning("the agent wants more than %d bytes to be remembered, some are not kept", MAX_BYTES)

    @staticmethod
    def _size(key: str, value: bytes | None) -> int:
        return 0 if value is None else len(key.encode(errors="replace")) + len(value)
