"""Sticky: every client at one worker, by its address, through deaths and reloads; by the kernel or the master."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest

from eggcluster.model.steering.affinity import client_key, home_of
from tests.cluster.clients import BLOCKING, Answer, Client, Target, ask, block, homes
from tests.cluster.harness import HELLO, Launched, Project
from tests.cluster.surroundings import free_port, in_network_of, key_pair, own_network
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its clients' many loopback addresses are Linux's")

VIAS = pytest.mark.parametrize("via", ["bpf", "acceptor"])
CLIENTS = [f"127.0.{i // 250}.{1 + i % 250}" for i in range(2000)]
NETWORKS = [f"2001:db8:{i:x}::{i % 7:x}" for i in range(2000)]

# A later incarnation waits at its start until the test lets it go on.
HELD_BACK = (
    HELLO
    + """
import asyncio, pathlib
gate = pathlib.Path(__file__).with_name("gate")

@app.on_start
async def wait():
    while app.generation > 1 and not gate.exists():
        await asyncio.sleep(0.01)
"""
)


def sticky(project: Project, via: str, *arguments: str, app: str = HELLO, workers: int = 4) -> tuple[Launched, Target]:
    launched = project.write(app=app).start("--workers", str(workers), "--sticky", "--sticky-via", via, *arguments)
    launched.wait_ready()
    assert steering(launched)["by"] == via
    return launched, Target.of(launched)


def steering(launched: Launched) -> dict[str, object]:
    return dict((launched.status() or {})["steering"])


def expected(client: str, slots: int = 4) -> int:
    return home_of(client_key(bytes(map(int, client.split(".")))), range(1, slots + 1))


def clients_of(slot: int, count: int, slots: int = 4) -> list[str]:
    return [client for client in CLIENTS if expected(client, slots) == slot][:count]


def spread_is_even(placed: dict[str, int]) -> bool:
    counts = Counter(placed.values())
    return len(counts) == 4 and all(abs(count / (len(placed) / 4) - 1) < 0.1 for count in counts.values())


# -- every client at one slot --------------------------------------------------------------------------------


@VIAS
def test_2000_clients_have_a_slot_each_and_are_spread_within_a_tenth_of_even(project: Project, via: str) -> None:
    _, target = sticky(project, via)
    first = homes(target, CLIENTS)
    assert spread_is_even(first), Counter(first.values())
    assert first == {client: expected(client) for client in CLIENTS}
    assert homes(target, CLIENTS[:500]) == dict(list(first.items())[:500])


@VIAS
def test_2000_networks_of_ipv6_likewise_and_the_hosts_of_one_are_together(project: Project, via: str) -> None:
    launcher = own_network("ip -6 route add local 2001:db8::/32 dev lo")
    options = ("--workers", "4", "--sticky", "--sticky-via", via, "--host", "::1")
    launched = project.write(app=HELLO).start(*options, launcher=launcher).wait_ready()
    target = Target.of(launched)
    assert steering(launched)["by"] == via

    def place(clients: list[str]) -> dict[str, int]:
        answers = in_network_of(launched.pid, lambda: ask(target, clients))
        return {client: answer.slot for client, answer in zip(clients, answers, strict=True)}

    first = place(NETWORKS)
    assert spread_is_even(first), Counter(first.values())
    neighbours = place([network.rpartition(":")[0] + ":aaaa:bbbb" for network in NETWORKS[:100]])
    assert list(neighbours.values()) == list(first.values())[:100]


@VIAS
def test_a_client_of_ipv4_is_the_same_at_a_socket_of_both_families(project: Project, via: str) -> None:
    with open("/proc/sys/net/ipv6/bindv6only") as file:
        if file.read().strip() != "0":
            pytest.skip("sockets of both families are not the default here")
    launched, _ = sticky(project, via, "--host", "::")
    target = Target("127.0.0.1", Target.of(launched).port)
    assert homes(target, CLIENTS[:50]) == {client: expected(client) for client in CLIENTS[:50]}


# -- death ---------------------------------------------------------------------------------------------------


@VIAS
def test_clients_of_a_dead_worker_wait_for_its_replacement_and_the_others_notice_nothing(
    project: Project, via: str
) -> None:
    launched, target = sticky(project, via, app=HELD_BACK)
    os.kill(launched.workers()[2], signal.SIGKILL)
    waiting = [Client(target, client) for client in clients_of(2, 10)]
    others = [ask(target, clients_of(slot, 5)) for slot in (1, 3, 4)]
    assert [{answer.slot for answer in answers} for answers in others] == [{1}, {3}, {4}]
    (project.folder / "gate").touch()
    answers = [client.read() for client in waiting]
    assert {answer.slot for answer in answers} == {2}
    assert max(answer.seconds for answer in answers) < 5  # the hold, after which they would go elsewhere


@VIAS
def test_after_the_hold_they_go_to_one_other_slot_each_and_come_back_later(project: Project, via: str) -> None:
    launched, target = sticky(project, via, "--sticky-hold", "1", app=HELD_BACK)
    before = homes(target, CLIENTS[:400])
    os.kill(launched.workers()[2], signal.SIGKILL)
    waited = Client(target, clients_of(2, 1)[0]).read()
    assert waited.slot != 2
    assert 0.5 < waited.seconds < 3
    for _ in range(2):
        now = homes(target, CLIENTS[:400])
        without = {client: home_of_others(client, 2) for client in CLIENTS[:400]}
        assert now == without
    assert {client for client in now if now[client] != before[client]} == {c for c in before if before[c] == 2}
    (project.folder / "gate").touch()
    wait_until(lambda: 2 in launched.workers(), "slot 2 is back")
    assert homes(target, CLIENTS[:400]) == before


def home_of_others(client: str, out: int) -> int:
    return home_of(client_key(bytes(map(int, client.split(".")))), [slot for slot in range(1, 5) if slot != out])


@VIAS
def test_clients_of_a_worker_that_stands_still_for_a_while_wait_for_it(project: Project, via: str) -> None:
    launched, target = sticky(project, via, app=BLOCKING)
    pid = launched.workers()[2]
    blocked = block(target, 2, 2, clients_of(2, 1)[0])
    waiting = [Client(target, client) for client in clients_of(2, 10)]
    wait_until(lambda: (launched.status() or {})["workers"][1]["stalled_for"], "the master has noticed")
    others = [ask(target, clients_of(slot, 5)) for slot in (1, 3, 4)]
    assert [{answer.slot for answer in answers} for answers in others] == [{1}, {3}, {4}]
    answers = [blocked.read(), *(client.read() for client in waiting)]
    assert {(answer.slot, answer.pid) for answer in answers} == {(2, pid)}


@VIAS
def test_where_all_workers_die_at_once_each_client_waits_for_its_own(project: Project, via: str) -> None:
    launched, target = sticky(project, via)
    for pid in launched.workers().values():
        os.kill(pid, signal.SIGKILL)
    waiting = {client: Client(target, client) for client in CLIENTS[:40]}
    assert {client: waiting[client].read().slot for client in waiting} == {c: expected(c) for c in waiting}


# -- connections on their way --------------------------------------------------------------------------------


def handed_over(launched: Launched, count: int) -> bool:
    return int(str(steering(launched)["handed_over"])) >= count


def test_a_worker_that_dies_with_connections_on_their_way_to_it_costs_none(project: Project) -> None:
    launched, target = sticky(project, "acceptor")
    pid = launched.workers()[2]
    os.kill(pid, signal.SIGSTOP)
    clients = [Client(target, client) for client in clients_of(2, 20)]
    wait_until(lambda: handed_over(launched, 20), "they are on their way")
    os.kill(pid, signal.SIGKILL)
    answers = [client.read() for client in clients]
    assert {answer.slot for answer in answers} == {2}
    assert pid not in {answer.pid for answer in answers}


def test_more_connections_than_there_is_room_for_on_the_way_wait_in_the_master(project: Project) -> None:
    launched, target = sticky(project, "acceptor")
    pid = launched.workers()[2]
    os.kill(pid, signal.SIGSTOP)
    clients = [Client(target, client) for client in clients_of(2, 400)]
    wait_until(lambda: steering(launched)["waiting"], "the socket to the worker is full")
    assert ask(target, clients_of(3, 3))[0].slot == 3
    os.kill(pid, signal.SIGCONT)
    answers = [client.read() for client in clients]
    assert {(answer.slot, answer.pid) for answer in answers} == {(2, pid)}
    assert steering(launched)["waiting"] == 0


def test_more_than_may_wait_stay_in_the_kernels_queue(project: Project) -> None:
    """The backlog bounds what waits in the master as well: above it nothing more is accepted."""
    launched, target = sticky(project, "acceptor", "--backlog", "20", app=HELD_BACK)
    os.kill(launched.workers()[2], signal.SIGKILL)
    wait_until(lambda: 2 not in launched.workers(), "the master knows of it")
    clients = [Client(target, client) for client in clients_of(2, 30)]
    wait_until(lambda: steering(launched)["waiting"] == 20, "as many wait as may")
    (project.folder / "gate").touch()
    assert {client.read().slot for client in clients} == {2}


# -- reload, TLS ---------------------------------------------------------------------------------------------


@VIAS
def test_a_reload_under_load_loses_no_connection_and_moves_no_client(project: Project, via: str) -> None:
    launched, target = sticky(project, via, workers=2)
    before = set(launched.workers().values())
    answers: list[tuple[str, Answer]] = []
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            answers.extend(zip(CLIENTS[:10], ask(target, CLIENTS[:10]), strict=True))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        subprocess.run(
            [sys.executable, "-m", "eggcluster", "reload"],
            cwd=launched.folder,
            env=launched.environ,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
    finally:
        done.set()
        thread.join()
    assert {answer.slot == expected(client, 2) for client, answer in answers} == {True}
    assert {answer.pid for answer in ask(target, CLIENTS[:20])} == set(launched.workers().values())
    assert not set(launched.workers().values()) & before


@VIAS
def test_tls_and_the_plain_debug_port_beside_it(project: Project, via: str) -> None:
    key, certificate = key_pair(project.folder, "own")
    port = free_port()
    _, target = sticky(project, via, "--https-key", key, "--https-cert", certificate, "--debug-port", port)
    clients = CLIENTS[:20]
    assert homes(target, clients, tls=True) == {client: expected(client) for client in clients}
    assert homes(Target("127.0.0.1", int(port)), clients) == {client: expected(client) for client in clients}


def test_with_one_worker_it_is_harmless(project: Project) -> None:
    launched = project.write(app=HELLO).start("--workers", "1", "--sticky").wait_ready()
    assert set(homes(Target.of(launched), CLIENTS[:10]).values()) == {1}
    assert steering(launched)["by"] == "single"
