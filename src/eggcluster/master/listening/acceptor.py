"""The acceptor: takes connections in the master and hands them to workers. Runs in the master.

It accepts the connections that wait at the listeners of slots that are not open, so that no client waits for a boot.
With `--sticky-via acceptor` it accepts every connection, because no kernel program chooses the slot by the address.
"""

import asyncio
import errno
import logging
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from eggcluster.kernel.connection_handover import Handover
from eggcluster.kernel.descriptors import Descriptors
from eggcluster.kernel.throttle import Throttle
from eggcluster.master.listening.key_steering import KeySteering
from eggcluster.model.lives.worker import Worker, WorkerState
from eggcluster.model.steering.affinity import client_key
from eggcluster.model.steering.steering_plan import SteeringPlan

BATCH = 64  # connections accepted in a row before the loop's other work has its turn
COLLECTED = 16  # connections taken in a row from a worker that gives them away
RETRY = 0.05  # seconds until the next try if a worker's socket is full, or no file descriptor is left
COMPLAINT_INTERVAL = 10.0  # seconds between two log lines about that
RESERVE = 64  # descriptors left to the master's other work: starting workers, answering on its control socket
SHARE = 4  # under a small limit, the reserve is one part in so many at most
MOST_KNOWN = 10_000  # remembered client addresses with their slots, some 100 bytes each

_logger = logging.getLogger("eggcluster.master")


class Arrival(NamedTuple):
    """A connection that has no worker yet. `client` is its address, with a port and more behind it."""

    connection: socket.socket
    tls: bool
    client: tuple[Any, ...] = ()
    request: bytes = b""  # with which a worker has given it away
    giver: Handover | None = None  # of that worker


class Acceptor:
    """Accepts at the given listeners, and hands connections over by the plan. Each connection is with exactly one
    process: a connection on its way to a worker that dies or hangs is taken back, and goes to another worker.

    `on_broken` is called with a worker that has shut down its end of the handover, and has to be ended for that.

    A connection that cannot be handed over yet, because its slot is held or its worker does not read, waits here. No
    more are accepted while `most_waiting` wait, or few file descriptors are left. Connections that are taken back may
    exceed `most_waiting`, by as many as fit into one socket for each worker. They do not take the reserve of
    descriptors either: those of a dead worker stay in its handover until there is room.
    """

    def __init__(self, most_waiting: int, keys: KeySteering | None = None) -> None:
        self.handed_over = 0
        self._keys = keys
        self.on_broken: Callable[[Worker, OSError], None] = lambda worker, error: None
        self._most_waiting = self._bound = most_waiting
        self._descriptors = Descriptors(RESERVE, SHARE)
        self._plan = SteeringPlan({})
        self._handovers: dict[Worker, Handover] = {}
        self._left: dict[Worker, Handover] = {}  # of dead workers: not all is taken back
        self._taken_back: Counter[Worker] = Counter()  # for the log, which names each worker once
        self._broken: set[Worker] = set()
        self._open: dict[int, Handover] = {}  # by slot: the handover of the worker that listens there
        self._sources: dict[socket.socket, bool] = {}  # the listeners to accept at, and whether each speaks TLS
        self._accepting: set[socket.socket] = set()
        self._waiting: deque[Arrival] = deque()
        self._known: dict[str, int | None] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._throttle = Throttle(COMPLAINT_INTERVAL)
        self._closed = False

    # -- workers ---------------------------------------------------------------------------------------------

    def open_handover(self, worker: Worker) -> int:
        """Open the handover of a worker that is about to start; return the file descriptor for the worker's end.
        OSError if the system refuses."""
        name = self._keys.name_of(worker) if self._keys is not None else b""
        handover = self._handovers[worker] = Handover(name)
        if self._keys is not None:
            asyncio.get_running_loop().add_reader(handover.master_end, self._collect, worker, handover)
        return handover.worker_fd

    def close_handover(self, worker: Worker) -> None:
        """Close the handover of a worker that is dead or was not started. Other workers get the connections in it."""
        handover = self._handovers.pop(worker, None)
        self._broken.discard(worker)
        if handover is None:
            return
        if self._keys is not None:
            asyncio.get_running_loop().remove_reader(handover.master_end)
            handover.seal()
            self._take_in(handover, None)
        if self._open.get(worker.slot) is handover:
            del self._open[worker.slot]
        self._left[worker] = handover
        self.settle()

    # -- the plan ------------------------------------------------------------------------------------------

    def follow(self, plan: SteeringPlan) -> None:
        """Hand over by this plan from now on."""
        self._plan = plan
        self._known.clear()
        closed = set(plan.closed)
        listening = {w: h for w, h in self._handovers.items() if w.state is WorkerState.LISTENING}
        self._open = {worker.slot: handover for worker, handover in listening.items() if worker not in self._broken}
        for worker, handover in listening.items():
            if worker.slot in closed:
                self._take_back(worker, handover)
        self.settle()

    def accept_at(self, sources: dict[socket.socket, bool]) -> None:
        """Accept at these listeners alone from now on; the values say whether their connections speak TLS."""
        self._sources = sources
        self._set_readers()

    def leave(self, listener: socket.socket) -> None:
        """Stop accepting at this listener, which is about to be closed."""
        self.accept_at({each: tls for each, tls in self._sources.items() if each is not listener})

    def start_master_socket_server(self, sources: dict[socket.socket, bool]) -> None:
        """Accept every connection in the master while any slot is open. Otherwise they wait in the listeners."""
        self.accept_at(sources if self._plan.any_open else {})

    def sticky_worker(self, host: str) -> int | None:
        """Return the slot that a client at this address belongs to, None while that is not open."""
        if host not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[host] = self._plan.home_slot(client_key(_packed(host)))
        return self._known[host]

    @property
    def waiting(self) -> int:
        """How many accepted connections wait here."""
        return len(self._waiting)

    def close(self) -> None:
        """Accept nothing more, and close the connections that still wait. May be called again."""
        self._closed = True
        self.accept_at({})
        if self._retry is not None:
            self._retry.cancel()
        self.settle()

    # -- accepting -------------------------------------------------------------------------------------------

    def _set_readers(self) -> None:
        wanted = set(self._sources) if len(self._waiting) < self._bound else set[socket.socket]()
        if wanted == self._accepting:
            return
        loop = asyncio.get_running_loop()
        for listener in self._accepting - wanted:
            loop.remove_reader(listener)
        for listener in wanted - self._accepting:
            listener.setblocking(False)
            loop.add_reader(listener, self._accept, listener)
        self._accepting = wanted

    def _accept(self, listener: socket.socket) -> None:
        tls = self._sources[listener]
        listener.setblocking(False)  # again: a worker that shares it may have changed it, and accept() would block
        for _ in range(BATCH):
            try:
                connection, client = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._hand_over_or_drop(Arrival(connection, tls, client))
            self._set_bound(connection)
            if len(self._waiting) >= self._bound:
                self._set_readers()
                return

    def _set_bound(self, accepted: socket.socket) -> None:
        """Let no more connections wait if this one waits with a file descriptor of the reserve."""
        self._bound = self._most_waiting
        if self._descriptors.is_reserve(accepted.fileno()):  # -1 if it has been handed over
            self._bound = min(self._bound, len(self._waiting))
            self._complain(f"few file descriptors are left (limit {self._descriptors.limit})")

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a moment: there is no file descriptor or memory for one more connection, or (EINVAL) the
        listener has been shut down, which the listener guard logs and repairs."""
        if error.errno != errno.EINVAL:
            self._complain(error)
        for listener in self._accepting:
            asyncio.get_running_loop().remove_reader(listener)
        self._accepting = set()
        self._try_again()

    def _complain(self, reason: object) -> None:
        if self._throttle.allows():
            _logger.warning("the master cannot accept: %s", reason)

    # -- what workers give away ------------------------------------------------------------------------------

    def _collect(self, worker: Worker, handover: Handover) -> None:
        """Take in what the worker gives away, and hand it over. With few descriptors, or many connections waiting, it
        has to wait."""
        if self._has_room():
            self._take_in(handover, COLLECTED)
        else:
            loop = asyncio.get_running_loop()
            loop.remove_reader(handover.master_end)
            loop.call_later(RETRY, self._collect_again, worker, handover)

    def _take_in(self, handover: Handover, most: int | None) -> None:
        has_room = self._has_room if most is None else lambda: True  # a batch is smaller than the reserve
        for each in handover.collect(has_room, most):
            self._hand_over_or_drop(Arrival(each.connection, each.tls, request=each.request, giver=handover))

    def _collect_again(self, worker: Worker, handover: Handover) -> None:
        if self._handovers.get(worker) is handover:
            asyncio.get_running_loop().add_reader(handover.master_end, self._collect, worker, handover)

    def _has_room(self) -> bool:
        return len(self._waiting) < self._most_waiting and self._descriptors.have_one()

    # -- handing over ----------------------------------------------------------------------------------------

    def _hand_over(self, arrival: Arrival) -> None:
        """Hand a connection over to a worker, or let it wait."""
        targets = self._targets(arrival)
        if any(handover is not None and self._send(handover, arrival) for handover in targets):
            return
        self._waiting.append(arrival)
        if targets:
            self._try_again()

    def _send(self, handover: Handover, arrival: Arrival) -> bool:
        """Return whether the worker gets the connection. The worker that gave it away need not ask the next time."""
        try:
            if not handover.send(arrival.connection, tls=arrival.tls, request=arrival.request):
                return False
        except OSError as error:
            self._give_up(handover, error)
            return False
        arrival.connection.close()
        if arrival.giver is not None:
            arrival.giver.send_direct(handover)
        self.handed_over += not arrival.request
        return True

    def _give_up(self, handover: Handover, error: OSError) -> None:
        """Hand nothing more to this worker: it has shut down its end of the handover."""
        worker = next(each for each, its in self._handovers.items() if its is handover)
        if self._open.get(worker.slot) is handover:
            del self._open[worker.slot]
        self._broken.add(worker)
        self.on_broken(worker, error)

    def _targets(self, arrival: Arrival) -> list[Handover | None]:
        """Return the handovers that may take the connection, the first choice first; None: it is not open yet."""
        if not arrival.request or self._keys is None:
            return [self._open.get(slot) for slot in self._slots_for(arrival)]
        well = {worker: handover for worker, handover in self._handovers.items() if worker not in self._broken}
        listening = [worker for worker in well if worker.state is WorkerState.LISTENING or self._closed]
        workers = self._keys.targets(arrival.request, listening, closing=self._closed)
        return [well[worker] for worker in workers if worker in well]

    def _slots_for(self, arrival: Arrival) -> Sequence[int]:
        """Return the slots that may get the connection, the first choice first; none while it has to wait."""
        if not self._plan.homes:
            return self._plan.by_weight(self.handed_over)
        slot = self.sticky_worker(arrival.client[0])
        return () if slot is None else (slot,)

    def _take_back(self, worker: Worker, handover: Handover) -> bool:
        """Let the connections that the worker has not received wait here. Return False if some may be left in the
        handover, because the reserve of descriptors is not for them."""
        taken = handover.take_back(self._descriptors.have_one)
        self._taken_back[worker] += len(taken)
        if worker in self._left:
            taken += handover.collect(self._descriptors.have_one)
        for connection, tls, request, _ in taken:
            try:
                self._waiting.append(Arrival(connection, tls, () if request else connection.getpeername(), request))
            except OSError:  # the client has left
                connection.close()
        if not self._descriptors.have_one():
            return False
        if count := self._taken_back.pop(worker, 0):
            _logger.info("%s did not receive %d connections; other workers get them", worker, count)
        return True

    def _take_back_left(self) -> None:
        """Take back from dead workers what there is room for, and close the handovers that are empty."""
        for worker, handover in list(self._left.items()):
            if not self._take_back(worker, handover):
                self._complain(f"few file descriptors are left (limit {self._descriptors.limit})")
                self._try_again()
                return
            handover.close()
            del self._left[worker]

    def settle(self) -> None:
        """Try again to hand over all connections that wait, because something has changed."""
        if self._closed:
            self._end_waiting()
            return
        self._take_back_left()
        for _ in range(len(self._waiting)):
            self._hand_over_or_drop(self._waiting.popleft())
        self._set_readers()

    def _hand_over_or_drop(self, arrival: Arrival) -> None:
        try:
            self._hand_over(arrival)
        except Exception:  # the others that wait have their turn all the same
            _logger.exception("BUG: a connection could not be handed over")
            arrival.connection.close()

    def _end_waiting(self) -> None:
        """Close the connections that wait here, and those that dead workers have not received."""
        while self._waiting:
            self._waiting.popleft().connection.close()
        for handover in self._left.values():
            handover.close()
        self._left.clear()

    def _try_again(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY, self._retried)

    def _retried(self) -> None:
        self._retry = None
        self.settle()


def _packed(host: str) -> bytes:
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return socket.inet_aton(host)
