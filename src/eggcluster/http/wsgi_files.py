"""The files of WSGI (PEP 3333): `wsgi.input`, read while it comes in, and `wsgi.file_wrapper`. Runs in app workers."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from eggcluster.http.sendfile import FilePart

PIECE = 64 * 1024  # bytes read at once from a file that is sent


class WsgiInput:
    """A file over `read_piece`, which waits for the next piece of the body and returns nothing at its end.

    Raises what `read_piece` raises: ConnectionResetError when the client leaves in the middle.
    """

    def __init__(self, read_piece: Callable[[], bytes]) -> None:
        self._read_piece = read_piece
        self._buffer = bytearray()
        self._is_at_end = False

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer at the end only; without a size, all that is left."""
        wanted = None if size is None or size < 0 else size
        while not self._is_at_end and (wanted is None or len(self._buffer) < wanted):
            self._fill()
        return self._take(wanted)

    def readline(self, size: int | None = -1) -> bytes:
        """Return the next line with its end, or `size` bytes of it."""
        wanted = None if size is None or size < 0 else size
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched) + 1
            if end or self._is_at_end or (wanted is not None and len(self._buffer) >= wanted):
                break
            searched = len(self._buffer)
            self._fill()
        limits = [limit for limit in (end or None, wanted) if limit is not None]
        return self._take(min(limits, default=None))

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return the lines that are left; with a hint, as many as make that many bytes."""
        lines: list[bytes] = []
        size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _fill(self) -> None:
        piece = self._read_piece()
        self._buffer += piece
        self._is_at_end = not piece

    def _take(self, size: int | None) -> bytes:
        if size is None or size >= len(self._buffer):
            taken, self._buffer = bytes(self._buffer), bytearray()
            return taken
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken


class FileWrapper:
    """`wsgi.file_wrapper`: a file as a response, from its position on.

    A server that returns it unchanged need not iterate over it: it takes `part` or `pieces`. The server calls `close`.
    """

    def __init__(self, file: Any, size: int = PIECE) -> None:
        """`size` is how much is read at once when something else iterates over it."""
        self._file = file
        self._size = size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> "FileWrapper":
        return self

    def __next__(self) -> bytes:
        piece: bytes = self._file.read(self._size)
        if not piece:
            raise StopIteration
        return piece

    def part(self) -> FilePart | None:
        """Return what is to be sent as a part of a regular file; None if it is none, or if that is not certain.

        Only Python's own file objects say so: a GzipFile, for instance, has the descriptor of what it decompresses.
        """
        file = self._file
        try:
            raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
            if type(raw) is not io.FileIO:
                return None
            file.flush()
            status, offset = os.fstat(raw.fileno()), file.tell()
        except (OSError, ValueError):  # it is closed, or detached; reading tells
            return None
        return FilePart(raw.fileno(), offset, status.st_size - offset) if stat.S_ISREG(status.st_mode) else None

    def pieces(self, most: int | None) -> Iterator[bytes]:
        """Read the file in pieces: up to its end, or `most` bytes."""
        left = most
        while left is None or left > 0:
            piece: bytes = self._file.read(PIECE if left is None else min(PIECE, left))
            if not piece:
                return
            yield piece
            left = None if left is None else left - len(piece)
