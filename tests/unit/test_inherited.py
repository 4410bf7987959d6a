"""Inherited sockets: whether they are still there, whatever others do to file descriptors that are not theirs."""

import os
import socket
from collections.abc import Iterator

import pytest

from eggcluster.kernel.inherited_sockets import InheritedSocket, inherited_socket


@pytest.fixture
def inherited() -> Iterator[InheritedSocket]:
    before = set(os.listdir("/dev/fd"))
    with socket.create_server(("127.0.0.1", 0)) as server, inherited_socket(os.dup(server.fileno())) as sock:
        yield sock
    assert set(os.listdir("/dev/fd")) <= before, "a file descriptor is left"


def test_it_is_there_until_its_number_is_closed(inherited: InheritedSocket) -> None:
    assert not inherited.is_lost
    os.close(inherited.fileno())
    assert inherited.is_lost
    inherited.close()
    inherited.close()
    assert inherited.fileno() == -1


@pytest.mark.parametrize("kind", [socket.AF_INET, socket.AF_UNIX])
def test_what_has_its_number_now_is_not_closed_with_it(inherited: InheritedSocket, kind: socket.AddressFamily) -> None:
    with socket.socket(kind) as other:
        number = os.dup2(other.fileno(), inherited.fileno())
        assert inherited.is_lost
        inherited.close()
        os.fstat(number)
        os.close(number)


def test_the_same_socket_at_its_number_is_no_loss(inherited: InheritedSocket) -> None:
    with inherited.dup() as same:
        os.dup2(same.fileno(), inherited.fileno())
    assert not inherited.is_lost
