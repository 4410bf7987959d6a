"""The cluster's metrics: what the master knows of itself, its workers and their HTTP. Runs in the master."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eggcluster import __version__
from eggcluster.kernel.memory import resident_bytes
from eggcluster.kernel.processor_time import ProcessorTimes
from eggcluster.master.admin.open_metrics import Family, render
from eggcluster.master.model_inputs import steering_view
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.master.tally import Tally
from eggcluster.master.worker_manager import WorkerManager
from eggcluster.model.http_counters import BOUNDS, CLASSES, HttpCounts
from eggcluster.model.lives.roster import Slot
from eggcluster.model.lives.supervisor import Supervisor
from eggcluster.options import ResolvedOptions


@dataclass
class ClusterMetrics:
    """Renders the metrics at the moment of a scrape. Nothing is read or counted for them in between, but what workers
    count of their HTTP."""

    options: ResolvedOptions
    supervisor: Supervisor
    switchboard: Switchboard
    workers: WorkerManager
    tally: Tally
    started_at: float  # Unix time

    def __post_init__(self) -> None:
        self._processor_times = ProcessorTimes()

    def text(self) -> bytes:
        """Return all metrics in the format of OpenMetrics."""
        return render([*self._cluster(), *self._slots(), *self._http(), *self._messages(), *self._processes()])

    def _cluster(self) -> Iterator[Family]:
        options = self.options
        yield Family("eggcluster", "info", "The cluster and its version").add(
            1, version=__version__, name=options.name, env=options.env, start_mode=options.start_mode
        )
        yield Family("eggcluster_start_time_seconds", "gauge", "Unix time at which the master started").add(
            self.started_at
        )
        yield Family("eggcluster_slots", "gauge", "App workers that the cluster has when all is well").add(
            len(self.supervisor.slots)
        )
        yield Family("eggcluster_open_slots", "gauge", "App workers that take new connections").add(
            open_slots(self.supervisor.slots)
        )
        reloads = Family("eggcluster_reloads", "counter", "Reloads by their end")
        for end in ("done", "failed"):
            reloads.add(self.tally.reloads[end], end=end)
        yield reloads

    def _slots(self) -> Iterator[Family]:
        generation = Family("eggcluster_generation", "gauge", "How many workers a slot has had")
        delay = Family("eggcluster_loop_delay_seconds", "gauge", "How late the last heartbeat came")
        connections = Family("eggcluster_connections", "gauge", "Open client connections")
        for slot in self.supervisor.roster:
            generation.add(slot.generation, worker=_name(slot.number))
            if slot.current is not None and slot.listening:
                delay.add(slot.current.heartbeat.lag, worker=_name(slot.number))
                if slot.number:
                    connections.add(slot.current.heartbeat.connections, worker=_name(slot.number))
        yield from (generation, delay, connections, self._deaths())

    def _deaths(self) -> Family:
        deaths = Family("eggcluster_worker_deaths", "counter", "Workers that ended without being told to, by cause")
        for slot in self.supervisor.roster:
            causes = {cause for number, cause in self.tally.deaths if number == slot.number} | {"exit", "hung"}
            for cause in sorted(causes):
                deaths.add(self.tally.deaths[slot.number, cause], worker=_name(slot.number), cause=cause)
        return deaths

    def _http(self) -> Iterator[Family]:
        accepted, counted = self.workers.accepted(), self.workers.http()
        taken = Family("eggcluster_accepted_connections", "counter", "Client connections that were accepted")
        responses = Family("eggcluster_http_responses", "counter", "Responses of the application by status class")
        received = Family("eggcluster_http_received_bytes", "counter", "Bytes of request bodies")
        sent = Family("eggcluster_http_sent_bytes", "counter", "Bytes of response bodies")
        total = HttpCounts()
        for slot in self.supervisor.slots:
            name, counts = _name(slot.number), counted.get(slot.number, HttpCounts())
            total.add(counts.numbers)
            taken.add(accepted[slot.number], worker=name)
            for number in range(1, CLASSES + 1):
                responses.add(counts.responses(number), worker=name, status=f"{number}xx")
            received.add(counts.received, worker=name)
            sent.add(counts.sent, worker=name)
        duration = Family("eggcluster_http_duration_seconds", "histogram", "Time from a request's head to its end")
        duration.add_histogram(BOUNDS, total.durations(), total.seconds)
        yield from (taken, responses, duration, received, sent)

    def _messages(self) -> Iterator[Family]:
        queued = Family("eggcluster_message_queue_bytes", "gauge", "Bytes of messages that wait for a worker")
        for slot in self.supervisor.roster:
            link = self.switchboard.link_of(slot.current) if slot.current is not None else None
            if link is not None:
                queued.add(link.queued_bytes, worker=_name(slot.number))
        yield queued
        lost = Family("eggcluster_messages_lost", "counter", "Messages that no worker got, by reason")
        lost.add(self.switchboard.lost.total, reason="no receiver")
        yield lost.add(self.switchboard.dropped.total, reason="receiver does not read")

    def _processes(self) -> Iterator[Family]:
        memory = Family("eggcluster_resident_memory_bytes", "gauge", "Memory that a process holds")
        names = {os.getpid(): "master"}
        names |= {pid: _name(worker.slot) for worker, pid in self.workers.processes().items()}
        held: Counter[str] = Counter()
        for pid, name in names.items():
            held[name] += resident_bytes(pid)
        for name, size in held.items():
            memory.add(size, process=name)
        time = Family("eggcluster_cpu_seconds", "counter", "Processor time, of a worker with its dead predecessors")
        for name, seconds in self._processor_times.read(names).items():
            time.add(seconds, process=name)
        yield from (memory, time)


def open_slots(slots: Sequence[Slot]) -> int:
    """Return how many slots take new connections."""
    return sum(steering_view(slot).open for slot in slots)


def _name(slot: int) -> str:
    return f"app#{slot}" if slot else "agent"
