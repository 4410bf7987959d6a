"""What signals are for a process: a line over which the master can reach a worker whose event loop stands still.

Runs as a thread beside each worker that lives in the master's process.
"""

import contextlib
import contextvars
import socket
import threading

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.worker_spec import CLOSE_REQUEST, STACKS_REQUEST
from eggcluster.kernel.threads import start_daemon
from eggcluster.worker.lifecycle.close_request import CloseRequest
from eggcluster.worker.lifecycle.stacks import stack_of, thread_frames


class ThreadSignals:
    """To be made in the worker's own thread, which its orders are about."""

    def __init__(self, sock: socket.socket, close_request: CloseRequest, record: HeartbeatPage) -> None:
        self._sock = sock
        self._close_request = close_request
        self._record = record
        self._worker = threading.get_ident()
        # In the worker's name: what it logs is the worker's.
        self._reader = start_daemon(contextvars.copy_context().run, self._read, name="egg-orders")

    def close(self) -> None:
        """The worker ends: no order can reach it any more."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._sock.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while spec := self._sock.recv(1):
                if spec == CLOSE_REQUEST:
                    self._close_request.give()
                elif spec == STACKS_REQUEST:
                    self._record.write_final_message(stack_of(thread_frames(self._worker)))
                    self._sock.send(STACKS_REQUEST)
