"""The process of a master: the command line's own, or a child with options from its channel. Runs in the master."""

import asyncio
import atexit
import os
import socket
import sys
import threading
import time
from typing import NoReturn

import uvloop

from eggcluster.errors import OptionsError
from eggcluster.ipc.frame import encode_frame
from eggcluster.ipc.worker_spec import read_first
from eggcluster.kernel.descriptors import open_standard_streams
from eggcluster.kernel.guardian import start_guardian
from eggcluster.kernel.memory import keep_freed_memory
from eggcluster.kernel.process_end import allow_open_transports
from eggcluster.kernel.signal_actions import block_terminal_signals, reset_inherited_signals
from eggcluster.logs import configure_logs
from eggcluster.master.master import Master
from eggcluster.model.lives.phase import ExitCode
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.options import ResolvedOptions

WORKER_THREAD_PREFIXES = ("egg-agent", "egg-app")  # of the names of the threads that are workers
# Bytes. What is relayed stays until it has begun, and the kernel holds some megabytes of it.
KEPT_MEMORY = 8 * 1024 * 1024
INTERPRETER_EXIT_TIMEOUT = 1.0  # seconds in which Python must end a process that had workers as threads


def main() -> NoReturn:
    """Run a master and exit. The first command line argument is the file descriptor of its channel to the parent."""
    open_standard_streams()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    options = read_first(sock, ResolvedOptions)
    spare = sock.dup()  # to report bad options, which may turn out before the channel is in use
    try:
        code = run_master(options, parent=sock)
    except OptionsError as error:
        data = {"report": str(error), "bad_option": True}
        spare.setblocking(True)
        spare.sendall(encode_frame(FrameKind.EVENT, Target.PARENT, ["boot-failed", data]))
        code = ExitCode.BAD_OPTIONS
    sys.exit(code)


def run_master(options: ResolvedOptions, parent: socket.socket | None = None) -> ExitCode:
    """Run a cluster in this process, which is nothing but its master from now on; return the exit code.

    OptionsError for an error that only shows now: a port that is taken, a second cluster of the same name.
    """
    code = ExitCode.FAILED

    def end_before_teardown() -> None:
        """End the process at once if an abandoned worker still runs.

        Python would stop its thread in the middle of the event loop's C code, which may crash.
        """
        if any(thread.name.startswith(WORKER_THREAD_PREFIXES) for thread in threading.enumerate()):
            os._exit(code)

    if options.start_mode != "process":
        atexit.register(end_before_teardown)  # registered first, so called last
    else:
        keep_freed_memory(KEPT_MEMORY)
    reset_inherited_signals()
    block_terminal_signals()
    open_standard_streams()
    if options.start_mode != "process":
        start_guardian(f"egg-guardian: {options.name}")
    log = configure_logs(options, "master", options.master_log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        log.run_in(runner.get_loop())
        try:
            code = runner.run(_run(options, parent))
        finally:
            allow_open_transports()
    if options.start_mode != "process":
        _limit_interpreter_exit(code)
    return code


def _limit_interpreter_exit(code: int) -> None:
    """End the process with `code` after a while. Python waits for its threads, executors' threads included, and an
    abandoned worker's may never end."""

    def end() -> None:
        time.sleep(INTERPRETER_EXIT_TIMEOUT)
        os._exit(code)

    threading.Thread(target=end, name="egg-exit", daemon=True).start()


async def _run(options: ResolvedOptions, parent: socket.socket | None) -> ExitCode:
    return await Master(options, owns_process=True, parent=parent).run()
