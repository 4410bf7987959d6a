"""The listening sockets, held for the master's whole life, and the steering of new connections. Runs in the master.

A worker's death closes none of them, so no client is refused while the worker is replaced.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from eggcluster.ipc.worker_spec import ListenerSpec
from eggcluster.kernel.listen_socket import attach_steering, is_shut
from eggcluster.master.listening.acceptor import Acceptor
from eggcluster.master.listening.key_steering import KeySteering
from eggcluster.model.lives.worker import Worker
from eggcluster.model.steering.reuseport_program import GroupOrder, encode
from eggcluster.model.steering.steering_plan import SlotView, Steering, SteeringPlan

# How a connection reaches its worker: a program in the kernel chooses the slot; the master accepts it and hands it
# over; the workers share one listener, or each has a port of its own; or there is only one worker.
By = Literal["bpf", "acceptor", "shared", "ports", "single"]

_logger = logging.getLogger("eggcluster.master")


@dataclass
class Endpoint:
    """One place where connections come in: a listener for each slot, or one for all. The listeners of a SO_REUSEPORT
    group began to listen in this order, slot 1 first."""

    sockets: list[socket.socket]
    tls: bool = False
    is_group: bool = False
    order: GroupOrder = field(init=False)

    def __post_init__(self) -> None:
        self.order = GroupOrder(range(1, len(self.sockets) + 1))

    def of_slot(self, slot: int) -> socket.socket:
        """Return the listener of a slot."""
        return self.sockets[slot - 1] if len(self.sockets) > 1 else self.sockets[0]

    def steer(self, plan: SteeringPlan) -> None:
        """Let the kernel follow the plan; do nothing if there is no group. OSError if the kernel refuses."""
        # Not through a listener that a worker has shut down: the kernel would put it into a new group for ever.
        listening = next((sock for sock in self.sockets if not is_shut(sock)), None)
        if self.is_group and listening is not None:
            attach_steering(listening, encode(plan.program(self.order.index_of)))

    def share(self) -> None:
        """Give up the group: all workers share the first listener."""
        while len(self.sockets) > 1:
            self.sockets.pop().close()
        self.is_group = False

    def close(self) -> None:
        """Close all listeners; may be called again."""
        for sock in self.sockets:
            sock.close()

    def url(self, slot: int) -> str:
        """Return the URL of a slot's listener."""
        return self.url_of(self.of_slot(slot))

    def url_of(self, sock: socket.socket) -> str:
        """Return the URL of one of the listeners."""
        if sock.family == socket.AF_UNIX:
            return f"unix:{sock.getsockname()}"
        host, port = sock.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls else 'http'}://{host}:{port}"


@dataclass
class Listeners:
    """All listening sockets, the address that users are shown, and the plan for new connections.

    The first endpoint is the cluster's own; the debug port is another one. With `by` "bpf" or "acceptor" the master can
    hand accepted connections to each worker.
    """

    endpoints: list[Endpoint]
    by: By
    sticky: bool
    refused: str | None  # why the kernel refused to steer, if it did
    steering: Steering | None  # None: the master neither accepts nor steers
    acceptor: Acceptor
    cluster_socket: socket.socket  # the agent's, at the path `cluster_port`
    cluster_port: str
    uds: str | None  # the path of the Unix socket that the cluster made
    uds_mode: int | None  # the permissions of its file
    keys: KeySteering | None = None  # of requests; None: they have none
    # Read once: the agent compares the inode, and the status shows the address even after the sockets are closed.
    cluster_inode: int = field(init=False)
    address: str = field(init=False)
    port: int | None = field(init=False)  # None for a Unix socket
    _uds_inode: int = field(init=False)
    _views: Sequence[SlotView] = field(init=False, default=())
    _wake: asyncio.TimerHandle | None = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        first = self.endpoints[0].of_slot(1)
        self.address = self.endpoints[0].url(1)
        self.port = first.getsockname()[1] if first.family != socket.AF_UNIX else None
        self.cluster_inode = os.stat(self.cluster_port).st_ino
        self._uds_inode = os.stat(self.uds).st_ino if self.uds is not None else 0

    def of_slot(self, slot: int) -> list[ListenerSpec]:
        """Return what the worker in `slot` listens at; without file descriptors if the master accepts for it."""
        if self.by == "acceptor":
            return [ListenerSpec(None, endpoint.tls) for endpoint in self.endpoints]
        return [ListenerSpec(endpoint.of_slot(slot).fileno(), endpoint.tls) for endpoint in self.endpoints]

    def address_of(self, slot: int) -> str:
        """Return the listen address of the worker in `slot`, as a URL."""
        return self.endpoints[0].url(slot)

    def everything(self) -> list[tuple[socket.socket, Endpoint]]:
        """Return all listeners of the workers, each with its endpoint."""
        return [(sock, endpoint) for endpoint in self.endpoints for sock in endpoint.sockets]

    def replace(self, sock: socket.socket, new: socket.socket) -> None:
        """Put `new`, which is at the same address, into the place of `sock`, and close `sock`. Then call `attach`."""
        for endpoint in self.endpoints:
            endpoint.sockets = [new if each is sock else each for each in endpoint.sockets]
        self.acceptor.leave(sock)
        sock.close()
        if new.family == socket.AF_UNIX and self.uds is not None:
            self._uds_inode = os.stat(self.uds).st_ino

    # -- workers ---------------------------------------------------------------------------------------------

    def open_handover(self, worker: Worker) -> dict[str, Any]:
        """Open the handover of an app worker that is about to start, and give it its part of the key table. Return the
        fields of its spec for them; without a handover, it gets no connections from the master."""
        if self.steering is None and self.keys is None:
            return {}
        fields = self.keys.open_part(worker) if self.keys is not None else {}
        try:
            return {"handover_fd": self.acceptor.open_handover(worker), **fields}
        except OSError as error:
            _logger.warning("%s gets no connections from the master: %s", worker, error)
            return fields

    def close_handover(self, worker: Worker) -> None:
        """Close the handover of a dead worker: other workers get the connections that were on their way to it."""
        if self.keys is not None:
            self.keys.close_part(worker)
        self.acceptor.close_handover(worker)

    # -- steering --------------------------------------------------------------------------------------------

    def steer(self, slots: Sequence[SlotView], now: float) -> None:
        """Steer new connections by these views of the slots from now on. Call it when a slot or a load has changed.

        `now` is the event loop's time. When a slot's hold ends, it calls itself. After `close` it does nothing.
        """
        if self._closed:
            return
        self._views = slots
        if self.keys is not None:
            self.keys.follow(slots, now)
        if self.steering is not None:
            self._steer(self.steering, slots, now)
        elif self.keys is not None:
            self.acceptor.settle()
        self._wake_at_deadline(now)

    def _steer(self, steering: Steering, slots: Sequence[SlotView], now: float) -> None:
        before = steering.plan
        plan = steering.update(slots, now)
        if plan != before:
            self.attach()
        self.acceptor.follow(plan)
        if self.by == "acceptor":
            self.acceptor.start_master_socket_server({sock: endpoint.tls for sock, endpoint in self.everything()})
        else:
            left = [
                (endpoint.of_slot(slot), endpoint.tls)
                for endpoint in self.endpoints
                if endpoint.is_group
                for slot in plan.taken_over
            ]
            self.acceptor.accept_at(dict(left))

    def describe(self) -> dict[str, Any]:
        """Return what the status shows of the steering, as plain values."""
        return {
            "by": self.by,
            "sticky": self.sticky,
            "refused": self.refused,
            "handed_over": self.acceptor.handed_over,
            "waiting": self.acceptor.waiting,
            "by_key": self.keys.describe() if self.keys is not None else None,
        }

    def attach(self) -> None:
        """Give the plan to the kernel if the kernel steers."""
        if self.steering is None or self.by != "bpf":
            return
        for endpoint in self.endpoints:
            try:
                endpoint.steer(self.steering.plan)
            except OSError as error:  # no memory for it at the moment: the next change tries again
                _logger.warning("the kernel does not take the steering program (%s): the previous one stays", error)

    def _wake_at_deadline(self, now: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        deadlines = [each.next_deadline() for each in (self.steering, self.keys) if each is not None]
        deadline = min((each for each in deadlines if each is not None), default=None)
        if deadline is not None:
            loop = asyncio.get_running_loop()
            self._wake = loop.call_later(max(0.0, deadline - now), lambda: self.steer(self._views, loop.time()))

    def close(self) -> None:
        """Close the master's own copies and remove the Unix socket's file; may be called again."""
        self.steering, self._closed = None, True
        if self._wake is not None:
            self._wake.cancel()
        if self.keys is not None:
            self.keys.stop()
        self.acceptor.close()
        for endpoint in self.endpoints:
            endpoint.close()
        self.cluster_socket.close()
        if self.uds is not None:
            unlink_own(self.uds, self._uds_inode)

    def release_keys(self) -> None:
        """Release the key table, once all workers are gone; may be called again."""
        if self.keys is not None:
            self.keys.close()


def unlink_own(path: str, inode: int) -> None:
    """Remove a Unix socket's file unless another one has taken its path."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)
