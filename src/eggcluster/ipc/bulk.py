"""Bulk: how a channel reads while much comes. Runs wherever a channel does.

A protocol that is handed bytes costs least for a small message, one that is read into for a large one (an eighth less
for the one, half for the other). So a channel begins as the former and becomes the latter while reads are large.
"""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eggcluster.ipc.channel import Channel

MUCH = 16 * 1024  # bytes in one read
LITTLE = 4 * 1024
CALM = 4  # reads of little in a row, after which no more bulk is expected


class Bulk(asyncio.BufferedProtocol):
    """The channel's other half: it reads straight into the reader's buffer, and hands all else on to the channel."""

    def __init__(self, channel: "Channel") -> None:
        self._channel = channel
        self._reader = channel.reader
        self._calm = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.room

    def buffer_updated(self, nbytes: int) -> None:
        self._calm = self._calm + 1 if nbytes <= LITTLE else 0
        self._channel.take_filled(nbytes)
        if self._calm >= CALM and not self._reader.pending:
            self._calm = 0
            self._channel.end_bulk()

    def eof_received(self) -> None:
        self._channel.eof_received()

    def pause_writing(self) -> None:
        self._channel.pause_writing()

    def resume_writing(self) -> None:
        self._channel.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.connection_lost(exc)
