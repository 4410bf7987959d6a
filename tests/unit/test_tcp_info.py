"""What the kernel knows of a connection, also of one that has just been closed."""

import asyncio
import socket
import sys

import pytest
import uvloop

from eggcluster.kernel.tcp_info import has_unread, silence_of


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
def test_an_open_connection_tells_its_silence_and_what_is_unread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            assert silence_of(accepted) is not None
            assert not has_unread(accepted)
            client.send(b"x")
            accepted.recv(1, socket.MSG_PEEK)
            assert has_unread(accepted)


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_transport_that_has_been_closed_raises_nothing(new_loop: "type[asyncio.AbstractEventLoop]") -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        sock = writer.get_extra_info("socket")
        writer.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert silence_of(sock) is None
        assert not has_unread(sock)
        server.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
