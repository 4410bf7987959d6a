"""Handing connections over: each is with one process, none is lost between two."""

import contextlib
import gc
import os
import resource
import socket
import sys
from collections.abc import Iterator

import pytest

from eggcluster.kernel.connection_handover import Handover, pass_on, receive
from eggcluster.kernel.inherited_sockets import inherited_socket


@pytest.fixture
def handover() -> Iterator[Handover]:
    before = set(os.listdir("/dev/fd"))
    made = Handover()
    yield made
    made.close()
    made.close()
    assert set(os.listdir("/dev/fd")) <= before, "a file descriptor is left"


@pytest.fixture
def worker(handover: Handover) -> Iterator[socket.socket]:
    """The worker's end, as it inherits it."""
    with inherited_socket(os.dup(handover.worker_fd)) as sock:
        yield sock


@contextlib.contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and what was accepted of it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            yield client, accepted


def send(handover: Handover, *, tls: bool = False) -> socket.socket:
    """Hand a connection over, and give its client."""
    with contextlib.ExitStack() as stack:
        client, accepted = stack.enter_context(connection())
        assert handover.send(accepted, tls=tls)
        return client.dup()


def alive(client: socket.socket) -> bool:
    """Whether some process still has the other end."""
    client.setblocking(False)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_arrives_non_blocking_and_not_inheritable(
    handover: Handover, worker: socket.socket, tls: bool
) -> None:
    with send(handover, tls=tls) as client:
        ((received, speaks_tls, *_),) = receive(worker)
        with received:
            assert speaks_tls is tls
            assert not received.getblocking()
            assert not received.get_inheritable()
            received.send(b"hello")
            assert client.recv(5) == b"hello"


def test_the_worker_gets_no_more_than_it_asks_for(handover: Handover, worker: socket.socket) -> None:
    with send(handover), send(handover), send(handover):
        for count in (2, 1, 0):
            received = list(receive(worker, 2))
            assert len(received) == count
            for sock, *_ in received:
                sock.close()


def test_what_a_worker_has_not_received_is_taken_back(handover: Handover, worker: socket.socket) -> None:
    with send(handover) as first, send(handover, tls=True) as second:
        ((received, *_),) = receive(worker, 1)
        ((back, tls, *_),) = handover.take_back()
        with received, back:
            assert tls
            assert received.getpeername() == first.getsockname()
            assert back.getpeername() == second.getsockname()
        assert handover.take_back() == []


def test_what_is_on_its_way_when_both_ends_are_given_up_is_closed(handover: Handover) -> None:
    with send(handover) as client:
        assert alive(client)
        handover.close()
        assert not alive(client)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all connections go over the master")
def test_a_direct_socket_leads_to_another_worker_and_what_came_on_it_can_be_taken_back(
    handover: Handover, worker: socket.socket
) -> None:
    with contextlib.closing(Handover(b"other")) as other:
        handover.send_direct(other)
        ((direct, _, _, name),) = receive(worker)
        assert name == b"other"
        with direct, connection() as (client, accepted):
            assert pass_on(direct, accepted.fileno(), request=b"GET")
            other.seal()
            with pytest.raises(BrokenPipeError):
                pass_on(direct, accepted.fileno(), request=b"GET")
            ((back, tls, request, _),) = other.take_back()
            with back:
                assert (back.getpeername(), tls, request) == (client.getsockname(), False, b"GET")
            assert other.take_back() == []


def test_a_direct_socket_that_the_worker_has_not_taken_is_no_connection_to_take_back(handover: Handover) -> None:
    with contextlib.closing(Handover(b"other")) as other, send(handover) as client:
        handover.send_direct(other)
        ((back, *_),) = handover.take_back()
        with back:
            assert back.getpeername() == client.getsockname()


def test_a_worker_that_does_not_read_fills_it_and_makes_room_by_reading(
    handover: Handover, worker: socket.socket
) -> None:
    with connection() as (_, accepted):
        sent = 0
        while handover.send(accepted, tls=False):
            sent += 1
            assert sent < 10_000, "it has no bound"
        assert sent > 50
        for received, *_ in receive(worker):
            received.close()
        assert handover.send(accepted, tls=False)


def test_with_too_many_open_files_a_worker_loses_what_does_not_fit_and_hears_of_it(
    handover: Handover, worker: socket.socket
) -> None:
    gc.collect()  # what earlier tests have left is closed now, and not while the limit holds
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with send(handover) as lost, send(handover):
        fillers = [os.dup(0) for _ in range(3)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1, hard))
            while True:
                fillers.append(os.dup(0))
        except OSError:
            with pytest.raises(OSError, match="too many open files"):
                list(receive(worker))
        finally:
            for fd in fillers:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not alive(lost)
        ((received, *_),) = receive(worker)
        received.close()
