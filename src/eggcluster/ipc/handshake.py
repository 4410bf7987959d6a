"""The first frame on a channel, read before there is an event loop. Runs in every child at its start."""

import socket
import sys
from typing import Any, TypeVar

from eggcluster.ipc.frame import HEADER, decode_body, encode_frame
from eggcluster.model.message import Kind, Target

T = TypeVar("T")


def send_first(sock: socket.socket, order: Any) -> None:
    """Tell a new child what it is to be. Some kilobytes at most, so they fit the socket's buffer: no waiting."""
    sock.sendall(encode_frame(Kind.EVENT, Target.ADDRESS, ["boot", order]))


def read_first(sock: socket.socket, type: type[T]) -> T:
    """What `send_first` sent, as `type`. SystemExit where the other side went away before it."""
    length: int = HEADER.unpack(_read(sock, HEADER.size))[0]
    _, order = decode_body(_read(sock, length), tuple[str, type])  # type: ignore[valid-type]
    return order  # type: ignore[no-any-return]  # decode_body has checked it


def _read(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            sys.exit("the channel was closed before the boot order came")
        data += chunk
    return bytes(data)
