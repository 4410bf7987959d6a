"""Owns one server's turn: what it is loaded with, for how long, what is recorded. Runs in the benchmark."""

from dataclasses import asdict, dataclass

from benchmarks.http_peers.balance import most_over_mean
from benchmarks.http_peers.contestants import EGG, OWN, Entry
from benchmarks.http_peers.load import SOURCES, under_clients, under_wrk
from benchmarks.http_peers.server import Server, served

WORKERS = 2
BALANCED = (8, 32, 256)  # connections
KEEP, CLOSE = "keep-alive", "one request each"
WAYS = (KEEP, CLOSE)
SPREAD = "spread"  # in front of a way: from 32 addresses
WARM_UP = 1  # seconds of each way before it is measured: Node compiles what is called often, and only after a while
AGAIN = {KEEP: 3, CLOSE: 2}  # runs in a turn; a run has new connections, and so another balance


@dataclass(frozen=True)
class Record:
    """One figure of one run. Rates are requests/s, times are seconds."""

    name: str
    case: str
    metric: str
    value: float


@dataclass(frozen=True)
class Plan:
    """How long a run under wrk is and one under clients, in seconds, and how often balance is looked at in a turn."""

    wrk: int
    clients: float
    balance: int


def take_turn(name: str, entry: Entry, plan: Plan, turn: int) -> list[Record]:
    """Everything of one server, once, with a fresh start."""
    with served(entry.build(WORKERS)) as server:
        records = [Record(name, "answer", "bytes", server.answer_size())]
        if not entry.sticky:
            records += loaded(server, plan) + balanced(server, plan)
        if entry.sticky or name in (OWN, EGG):
            records += spread(server, plan, turn, warm=not entry.sticky)
    return records


def loaded(server: Server, plan: Plan) -> list[Record]:
    """Under wrk."""
    records: list[Record] = []
    for way in WAYS:
        under_wrk(server, WARM_UP, close=way == CLOSE)
        for _ in range(AGAIN[way]):
            figures = asdict(under_wrk(server, plan.wrk, close=way == CLOSE))
            records += [Record(server.name, way, metric, value) for metric, value in figures.items()]
    return records


def spread(server: Server, plan: Plan, turn: int, *, warm: bool) -> list[Record]:
    """Under clients with 32 addresses; each run of a turn has others, all servers have the same."""
    records: list[Record] = []
    for way in WAYS:
        under_clients(server, WARM_UP / 4 if warm else WARM_UP, 0, close=way == CLOSE)
        for run in range(AGAIN[way]):
            first = SOURCES * (1 + turn * max(AGAIN.values()) + run)
            figures = asdict(under_clients(server, plan.clients, first, close=way == CLOSE))
            records += [Record(server.name, f"{SPREAD} {way}", metric, value) for metric, value in figures.items()]
    return records


def balanced(server: Server, plan: Plan) -> list[Record]:
    return [
        Record(server.name, f"balance {connections}", "most over mean", most_over_mean(server, connections, WORKERS))
        for connections in BALANCED
        for _ in range(plan.balance)
    ]
