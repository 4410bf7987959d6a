"""The sockets that a worker accepts from and accepts: they are as others, but their kind is a plain number."""

import socket

from eggcluster.kernel.inherited_sockets import inherited_socket


def test_what_is_accepted_is_as_from_any_other_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, inherited_socket(server.detach()) as listener:
        assert (type(listener.family), type(listener.type)) == (int, int)
        assert (listener.family, listener.type) == (socket.AF_INET, socket.SOCK_STREAM)
        with socket.create_connection(listener.getsockname()) as client:
            accepted, address = listener.accept()
            with accepted:
                assert address == client.getsockname() == accepted.getpeername()
                assert (type(accepted.family), type(accepted.type)) == (int, int)
                assert (accepted.family, accepted.type) == (socket.AF_INET, socket.SOCK_STREAM)
                assert not accepted.get_inheritable()
                accepted.sendall(b"as usual")
                assert client.recv(100) == b"as usual"
