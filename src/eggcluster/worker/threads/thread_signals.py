"""The master's signals to a worker that is a thread; they arrive although its event loop is blocked.

Runs in a thread of its own beside each worker in the master's process.
"""

import contextlib
import contextvars
import socket
import threading

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.ipc.worker_spec import CLOSE_REQUEST, STACKS_REQUEST
from eggcluster.kernel.stacks import stack_of, thread_frames
from eggcluster.kernel.threads import start_daemon
from eggcluster.worker.lifecycle.close_request import CloseRequest


class ThreadSignals:
    """Reads one-byte signals from the master. Construct it in the worker's own thread, which the signals are for."""

    def __init__(self, sock: socket.socket, close_request: CloseRequest, record: HeartbeatPage) -> None:
        self._sock = sock
        self._close_request = close_request
        self._record = record
        self._worker = threading.get_ident()
        # With the worker's context, so that its log lines carry the worker's name.
        self._reader = start_daemon(contextvars.copy_context().run, self._read, name="egg-signals")

    def close(self) -> None:
        """Stop reading, because the worker ends. Wait for the reading thread."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._sock.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while signal := self._sock.recv(1):
                if signal == CLOSE_REQUEST:
                    self._close_request.set()
                elif signal == STACKS_REQUEST:
                    self._record.write_final_message(stack_of(thread_frames(self._worker)))
                    self._sock.send(STACKS_REQUEST)
