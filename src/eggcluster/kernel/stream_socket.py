"""A socket whose family and type cost nothing to look at. Runs in all processes."""

import socket
from typing import Any


class StreamSocket(socket.socket):
    """A socket whose `family` and `type` are plain numbers.

    Those of the base class build a member of an Enum at each look, which takes as long as a system call; to accept a
    connection and to give it a transport takes six looks.
    """

    __slots__ = ()

    family = socket.SocketType.family  # type: ignore[assignment]
    type = socket.SocketType.type  # type: ignore[assignment]

    def accept(self) -> tuple["StreamSocket", Any]:
        """Do what the base class does, but return a StreamSocket."""
        descriptor, address = self._accept()  # type: ignore[attr-defined]
        return StreamSocket(self.family, self.type, self.proto, fileno=descriptor), address
