"""Owns a round: what the servers are loaded with, for how long, what is recorded. Runs in the benchmark."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from benchmarks.http_peers.balance import most_over_mean
from benchmarks.http_peers.contestants import SERVERS, SPREAD, Entry
from benchmarks.http_peers.load import SOURCES, under_clients, under_wrk
from benchmarks.http_peers.server import Server, all_served

WORKERS = 2
BALANCED = (8, 32, 256)  # connections
KEEP, CLOSE = "keep-alive", "one request each"
WAYS = (KEEP, CLOSE)
ADDRESSED = "from 32 addresses,"  # in front of a way
AGAIN = {KEEP: 3, CLOSE: 2}  # runs in a round; a run has new connections, and so another balance


@dataclass(frozen=True)
class Record:
    """One figure of one run. Rates are requests/s, times are seconds."""

    name: str
    case: str
    metric: str
    value: float


@dataclass(frozen=True)
class SupervisorSettings:
    """How long a run under wrk is and one under clients, in seconds, and how often balance is looked at in a round."""

    wrk: int
    clients: float
    balance: int


def take_round(present: dict[str, Entry], plan: SupervisorSettings, round_: int) -> list[Record]:
    """Everything, once, with a fresh start. All servers are there at once and take their runs in turn, because what
    is compared should be seconds apart: idle ones cost nothing, but a busy machine's pace drifts."""
    with all_served(entry.build(WORKERS) for entry in present.values()) as servers:
        plain = [server for server in servers if server.name in SERVERS]
        records = [Record(server.name, "answer", "bytes", server.answer_size()) for server in servers]
        for server in servers:
            warm_up(server)
        records += loaded(plain, plan, round_)
        records += addressed([server for server in servers if server.name in SPREAD], plan, round_)
        for server in plain:
            records += balanced(server, plan)
    return records


def loaded(servers: list[Server], plan: SupervisorSettings, round_: int) -> list[Record]:
    """Under wrk."""
    records: list[Record] = []
    for way, _, server in in_turn(servers, round_):
        figures = asdict(under_wrk(server, plan.wrk, close=way == CLOSE))
        records += [Record(server.name, way, metric, value) for metric, value in figures.items()]
    return records


def addressed(servers: list[Server], plan: SupervisorSettings, round_: int) -> list[Record]:
    """Under clients with 32 addresses: other ones in each run, the same ones for all servers."""
    records: list[Record] = []
    for way, number, server in in_turn(servers, round_):
        figures = asdict(under_clients(server, plan.clients, SOURCES * (1 + number), close=way == CLOSE))
        records += [Record(server.name, f"{ADDRESSED} {way}", metric, value) for metric, value in figures.items()]
    return records


def in_turn(servers: list[Server], round_: int) -> Iterator[tuple[str, int, Server]]:
    """Each way and server, with the number of the run; nobody always comes after the same neighbour."""
    for way in WAYS:
        for run in range(AGAIN[way]):
            number = round_ * AGAIN[way] + run
            first = number % max(1, len(servers))
            for server in servers[first:] + servers[:first]:
                yield way, number, server


def warm_up(server: Server) -> None:
    """Not counted. Node compiles what is called often, and only after a while."""
    under_clients(server, 0.8, 0, close=False)
    under_clients(server, 0.2, 0, close=True)


def balanced(server: Server, plan: SupervisorSettings) -> list[Record]:
    return [
        Record(server.name, f"balance {connections}", "most over mean", most_over_mean(server, connections, WORKERS))
        for connections in BALANCED
        for _ in range(plan.balance)
    ]
