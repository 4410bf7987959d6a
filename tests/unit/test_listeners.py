"""The listening sockets: bound once, in the order of the slots, refused in one line where they cannot be had."""

import contextlib
import os
import resource
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eggcluster.errors import OptionsError
from eggcluster.kernel.unix_socket import connect_unix
from eggcluster.master.listening.binding import detect_ports
from eggcluster.master.listening.listeners import Listeners
from eggcluster.options import ResolvedOptions

Bind = Callable[..., Listeners]


@pytest.fixture
def bind(tmp_path: Path) -> Iterator[Bind]:
    """`detect_ports`, closed after the test."""
    made: list[Listeners] = []

    def detect(**options: Any) -> Listeners:
        more = {"workers": 2, "port": None if {"uds", "ports", "fd"} & set(options) else 0, **options}
        made.append(detect_ports(ResolvedOptions(**more), str(tmp_path / f"agent{len(made)}.sock")))
        return made[-1]

    yield detect
    for listeners in made:
        listeners.close()


def refused(bind: Bind, **options: Any) -> str:
    before = set(os.listdir("/dev/fd"))  # garbage of an earlier test may be closed meanwhile
    with pytest.raises(OptionsError) as caught:
        bind(**options)
    assert set(os.listdir("/dev/fd")) <= before, "a socket stays open"
    (line,) = caught.value.problems
    return line


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which a listener listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="one listener for each slot is Linux's")
def test_each_slot_has_its_own_listener_at_the_same_port(bind: Bind) -> None:
    listeners = bind(workers=3)
    (endpoint,) = listeners.endpoints
    assert len(endpoint.sockets) == 3
    assert {sock.getsockname()[1] for sock in endpoint.sockets} == {listeners.port}
    fds = [listener.fd for slot in (1, 2, 3) for listener in listeners.of_slot(slot)]
    assert fds == [sock.fileno() for sock in endpoint.sockets]
    assert listeners.address == f"http://127.0.0.1:{listeners.port}"
    assert listeners.by == "bpf"


def test_a_single_worker_has_one_plain_listener(bind: Bind) -> None:
    listeners = bind(workers=1, sticky=True)
    (listener,) = listeners.endpoints[0].sockets
    assert not listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    assert listeners.by == "single"


def test_they_accept_from_the_first_moment(bind: Bind) -> None:
    listeners = bind()
    for _ in range(10):
        socket.create_connection(("127.0.0.1", listeners.port or 0), timeout=5).close()


def test_children_do_not_inherit_what_is_not_theirs(bind: Bind) -> None:
    listeners = bind()
    assert not any(sock.get_inheritable() for endpoint in listeners.endpoints for sock in endpoint.sockets)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_taken_port_is_refused(bind: Bind, taken: int, workers: int) -> None:
    line = refused(bind, port=taken, workers=workers)
    assert line.startswith(f"port: {taken} on 127.0.0.1 is taken by another process")


def test_a_port_is_taken_also_where_its_holder_would_share_it(bind: Bind) -> None:
    """Another cluster's SO_REUSEPORT group: the kernel would let us in, and give us half of its connections."""
    first = bind()
    assert "is taken by another process" in refused(bind, port=first.port)


def test_one_port_for_each_worker(bind: Bind, taken: int) -> None:
    free = bind(workers=1).port
    assert free is not None
    line = refused(bind, ports=(taken, free + 1))
    assert line.startswith(f"ports: {taken} ")


def test_an_address_of_another_machine_is_refused(bind: Bind) -> None:
    assert refused(bind, host="192.0.2.1").startswith('host: "192.0.2.1" is not an address of this machine')
    assert refused(bind, host="no such host").startswith('host: "no such host" is not an address')


@pytest.mark.parametrize("host", ["192.0.2.1", "x86_64-conda-linux-gnu"])
def test_an_address_from_the_environment_is_refused_under_its_name(bind: Bind, host: str) -> None:
    """conda's compilers export HOST, with the type of the machine."""
    line = refused(bind, host=host, names={"host": "HOST"})
    assert line.startswith(f'HOST: "{host}" is not an address of this machine')
    assert line.endswith("it is the environment variable HOST: unset it, or name the address with --host")


def test_a_taken_port_is_refused_under_the_name_of_its_source(bind: Bind, taken: int) -> None:
    assert refused(bind, port=taken, names={"port": "PORT"}).startswith(f"PORT: {taken} on 127.0.0.1 is taken")


def test_ipv6_is_written_as_a_url(bind: Bind) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback")
    listeners = bind(host="::1")
    assert listeners.address == f"http://[::1]:{listeners.port}"


def test_the_debug_port_is_plain_beside_tls(bind: Bind) -> None:
    listeners = bind(https_cert="cert.pem", debug_port=0)
    assert [listener.tls for listener in listeners.of_slot(1)] == [True, False]
    assert listeners.address.startswith("https://")


def test_the_acceptor_keeps_the_listeners_to_itself(bind: Bind) -> None:
    listeners = bind(sticky=True, sticky_via="acceptor", https_cert="cert.pem", debug_port=0)
    assert listeners.by == "acceptor"
    assert [len(endpoint.sockets) for endpoint in listeners.endpoints] == [1, 1]
    assert [(listener.fd, listener.tls) for listener in listeners.of_slot(2)] == [(None, True), (None, False)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux steers")
@pytest.mark.parametrize(("sticky", "instead"), [(False, "bpf"), (True, "acceptor")])
def test_more_slots_than_a_sticky_program_has_room_for_are_served_by_the_acceptor(
    bind: Bind, caplog: pytest.LogCaptureFixture, sticky: bool, instead: str
) -> None:
    """227 slots: one more than 4,096 instructions can tell apart. What the kernel refuses here is real."""
    listeners = bind(workers=227, sticky=sticky)
    assert listeners.by == instead
    assert listeners.address == f"http://127.0.0.1:{listeners.port}"
    if sticky:
        assert listeners.describe()["refused"] == "Invalid argument"
        assert len(listeners.endpoints[0].sockets) == 1
        assert len(caplog.records) == 1
        assert "the master accepts and hands over" in caplog.text


def test_a_unix_socket_that_was_inherited_has_no_clients_to_tell_apart(bind: Bind, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(tmp_path / "given.sock"))
        given.listen()
        assert refused(bind, fd=given.fileno(), sticky=True).startswith("sticky: the socket of fd is a Unix socket")


def test_a_unix_socket_is_shared_and_its_file_is_removed(bind: Bind, tmp_path: Path) -> None:
    path = tmp_path / "egg.sock"
    listeners = bind(uds=str(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert listeners.address == f"unix:{path}"
    assert listeners.port is None
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listeners.close()
    listeners.close()
    assert not path.exists()


def test_the_file_of_a_dead_server_is_replaced_and_that_of_a_living_one_is_not(bind: Bind, tmp_path: Path) -> None:
    path = tmp_path / "egg.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    first = bind(uds=str(path))
    assert refused(bind, uds=str(path)).startswith(f'uds: "{path}" is taken by another process')
    first.close()


def test_a_file_that_is_no_socket_is_left_alone(bind: Bind, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    assert "is not a socket" in refused(bind, uds=str(path))
    assert path.read_text() == "mine"


def test_a_unix_socket_that_another_has_put_in_its_place_is_left_alone(bind: Bind, tmp_path: Path) -> None:
    path = tmp_path / "egg.sock"
    listeners = bind(uds=str(path))
    path.rename(tmp_path / "old.sock")  # keeps its inode in use
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        listeners.close()
        assert path.exists()


def test_an_inherited_socket_is_used_as_it_is(bind: Bind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listeners = bind(fd=server.fileno())
        assert listeners.port == server.getsockname()[1]


def test_what_is_no_socket_cannot_be_inherited(bind: Bind, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert refused(bind, fd=file.fileno()).startswith(f"fd: {file.fileno()} is not a socket")


def test_the_agents_followers_have_a_unix_socket_that_only_the_owner_can_open(bind: Bind) -> None:
    listeners = bind(host="0.0.0.0")
    assert stat.S_IMODE(os.stat(listeners.cluster_port).st_mode) == 0o600
    with connect_unix(listeners.cluster_port) as follower:  # it listens: this one waits for an agent
        follower.sendall(b"waits as well")


def test_a_cluster_port_that_cannot_be_had_is_one_line_and_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(OptionsError, match=r"the runtime directory .*/none cannot be used: No such file"):
        detect_ports(ResolvedOptions(port=0, workers=1), str(tmp_path / "none" / "agent.sock"))
    assert len(os.listdir("/dev/fd")) == before


def test_a_socket_whose_owner_is_stopped_is_taken_even_with_a_full_backlog(bind: Bind, tmp_path: Path) -> None:
    path = str(tmp_path / "egg.sock")
    with socket.socket(socket.AF_UNIX) as owner, contextlib.ExitStack() as waiting:
        owner.bind(path)
        owner.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = waiting.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
        assert refused(bind, uds=path).startswith(f'uds: "{path}" is taken by another process')


def test_too_few_file_descriptors_are_one_line_and_leave_none_open(bind: Bind) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir("/dev/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
        assert "Too many open files" in refused(bind, workers=highest + 100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("host", ["no\nsuch\x1b[31m", "no\udcff"])
def test_a_host_is_shown_without_its_control_characters(bind: Bind, host: str) -> None:
    line = refused(bind, host=host)
    assert line.startswith('host: "no\\')
    assert line.isprintable()
