"""The status: what a person, a program or an application may know of the running cluster. Runs in the master."""

import os
from typing import Any

from eggcluster import __version__
from eggcluster.master.listening.listeners import Listeners
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.model.lives.restart_budget import MINUTE
from eggcluster.model.lives.roster import Slot
from eggcluster.model.lives.supervisor import Supervisor
from eggcluster.model.lives.worker import Worker, WorkerState
from eggcluster.options import ResolvedOptions


def describe_cluster(
    options: ResolvedOptions,
    supervisor: Supervisor,
    switchboard: Switchboard,
    listeners: Listeners,
    abandoned: list[Worker],
    started_at: float,
    now: float,
) -> dict[str, Any]:
    """The whole state as plain values. Ages and times to come in seconds, `started_at` in Unix seconds."""
    return {
        "name": options.name,
        "phase": supervisor.phase.word,
        "version": __version__,
        "pid": os.getpid(),
        "started_at": started_at,
        "address": listeners.address or None,
        "steering": listeners.describe(),
        "base_dir": options.base_dir,
        "env": options.env,
        "start_mode": options.start_mode,
        "agent_missing": supervisor.health.no_agent,
        "agent": _describe_seat(supervisor.agent, switchboard, now),
        "workers": [{"slot": s.number, **_describe_seat(s, switchboard, now)} for s in supervisor.slots],
        "abandoned": [str(worker) for worker in abandoned],
        "messages_to_nobody": switchboard.lost.total,
        "messages_dropped": switchboard.dropped.total,
    }


def _describe_seat(seat: Slot, switchboard: Switchboard, now: float) -> dict[str, Any]:
    worker = seat.current or next(iter(seat.retiring), None)
    link = switchboard.link_of(worker) if worker is not None else None
    return {
        "worker_id": worker.worker_id if worker is not None else None,
        "generation": seat.generation if worker is None else worker.generation,
        "state": seat.state.value,
        "age": round(now - worker.born, 3) if worker is not None else None,
        "deaths": seat.budget.deaths,
        "deaths_last_minute": seat.budget.deaths_within(MINUTE, now),
        "last_death": seat.last_death,
        "next_try": round(max(0.0, seat.next_try - now), 3) if seat.next_try is not None else None,
        "successor": seat.successor.worker_id if seat.successor is not None else None,
        "requests": worker.signs.requests if worker is not None else None,
        "connections": worker.signs.connections if worker is not None else None,
        "loop_delay": round(worker.signs.lag, 4) if worker is not None else None,
        "silent_for": _silent_for(worker, now),
        "messages": link.counters() if link is not None else None,
        "background": worker.background if worker is not None else [],
    }


def _silent_for(worker: Worker | None, now: float) -> float | None:
    """For how long its loop stands still, None while it moves."""
    if worker is None or worker.moves or worker.state is not WorkerState.LISTENING:
        return None
    return round(now - worker.signs.beat, 3)
