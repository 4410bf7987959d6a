"""The status of the running cluster, as plain values: `eggcluster status --json`. Runs in the master."""

import os
from typing import Any

from eggcluster import __version__
from eggcluster.master.listening.listeners import Listeners
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.master.resources import MasterResources
from eggcluster.model.lives.roster import MINUTE, Slot
from eggcluster.model.lives.supervisor import Supervisor
from eggcluster.model.lives.worker import Worker, WorkerState
from eggcluster.options import ResolvedOptions


def describe_cluster(
    options: ResolvedOptions,
    supervisor: Supervisor,
    switchboard: Switchboard,
    resources: MasterResources,
    abandoned: list[Worker],
    started_at: float,
    now: float,
) -> dict[str, Any]:
    """Return the cluster's whole state. Ages and waits are in seconds, `started_at` in Unix seconds."""
    listeners, admin = resources.listeners, resources.admin_address
    return {
        "name": options.name,
        "phase": supervisor.phase.word,
        "version": __version__,
        "pid": os.getpid(),
        "started_at": started_at,
        "address": listeners.address or None,
        "steering": listeners.describe(),
        "admin": str(admin) if admin is not None else None,
        "base_dir": options.base_dir,
        "env": options.env,
        "start_mode": options.start_mode,
        "agent_missing": supervisor.health.no_agent,
        "agent": _describe_slot(supervisor.agent, switchboard, now),
        "workers": [
            {"slot": slot.number, **_describe_slot(slot, switchboard, now), "keys": _keys(slot, listeners)}
            for slot in supervisor.slots
        ],
        "abandoned": [str(worker) for worker in abandoned],
        "messages_to_nobody": switchboard.lost.total,
        "messages_dropped": switchboard.dropped.total,
    }


def _describe_slot(slot: Slot, switchboard: Switchboard, now: float) -> dict[str, Any]:
    worker = slot.current or next(iter(slot.retiring), None)
    link = switchboard.link_of(worker) if worker is not None else None
    return {
        "worker_id": worker.worker_id if worker is not None else None,
        "generation": slot.generation if worker is None else worker.generation,
        "state": slot.state.value,
        "age": round(now - worker.born, 3) if worker is not None else None,
        "deaths": slot.budget.deaths,
        "deaths_last_minute": slot.budget.deaths_within(MINUTE, now),
        "last_death": slot.last_death,
        "next_try": round(max(0.0, slot.next_try - now), 3) if slot.next_try is not None else None,
        "successor": slot.successor.worker_id if slot.successor is not None else None,
        "requests": worker.heartbeat.requests if worker is not None else None,
        "connections": worker.heartbeat.connections if worker is not None else None,
        "loop_delay": round(worker.heartbeat.lag, 4) if worker is not None else None,
        "stalled_for": _stalled_for(worker, now),
        "messages": link.counters() if link is not None else None,
        "background": worker.background if worker is not None else [],
    }


def _keys(slot: Slot, listeners: Listeners) -> int | None:
    """Return how many keys live in the slot's workers, old ones included; None if requests have no keys."""
    keys = listeners.keys
    if keys is None:
        return None
    return sum(keys.keys_of(worker) for worker in (slot.current, *slot.retiring) if worker is not None)


def _stalled_for(worker: Worker | None, now: float) -> float | None:
    """Return for how long the worker's event loop has been stalled, in seconds; None if it is not."""
    if worker is None or not worker.stalled or worker.state is not WorkerState.LISTENING:
        return None
    return round(now - worker.heartbeat.beat, 3)
