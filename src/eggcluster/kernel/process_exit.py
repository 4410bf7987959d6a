"""Waits for another process to end, without polling where the kernel can tell. Runs in all processes."""

import asyncio
import os
import select
import threading
import time
from typing import Protocol

from eggcluster.kernel.process_tree import is_running

FALLBACK_INTERVAL = 0.25  # seconds; well within the second that a child has to notice its master's end


class ChildProcess(Protocol):
    """A child that was started (Popen) or adopted. `wait` blocks, reaps it, and returns Popen's return code."""

    @property
    def pid(self) -> int: ...

    def wait(self) -> int: ...


async def wait_exited(process: ChildProcess) -> int:
    """Wait until the child has exited, and reap it. Return Popen's return code (negative: the signal).

    Cancelling ends only the waiting.
    """
    try:
        fd = os.pidfd_open(process.pid)  # Linux 5.3 and later
    except (AttributeError, OSError):
        return await _wait_in_thread(process)
    loop = asyncio.get_running_loop()
    exited = asyncio.Event()
    loop.add_reader(fd, exited.set)
    try:
        await exited.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return process.wait()


async def _wait_in_thread(process: ChildProcess) -> int:
    """Wait in a daemon thread, for kernels without pidfd: an abandoned wait does not delay the interpreter's end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[int] = loop.create_future()

    def wait() -> None:
        loop.call_soon_threadsafe(tell, process.wait())

    def tell(code: int) -> None:
        if not done.done():
            done.set_result(code)

    threading.Thread(target=wait, name="egg-wait-exit", daemon=True).start()
    return await done


def wait_until_gone(pid: int) -> None:
    """Block until the process `pid` has ended. It need not be a child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        while is_running(pid):
            time.sleep(FALLBACK_INTERVAL)
        return
    _wait_readable(fd)


def _wait_readable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()
    os.close(fd)


def block_until_parent_exits(parent: int) -> None:
    """Block the calling thread until the parent process `parent` is gone.

    It uses a pidfd, not a pipe: a forked grandchild with a copy of the pipe's other end would keep it open for ever.
    """
    try:
        fd = os.pidfd_open(parent)
    except (AttributeError, OSError):
        while os.getppid() == parent:
            time.sleep(FALLBACK_INTERVAL)
        return
    if os.getppid() == parent:  # else it was gone, and its pid reused, before the pidfd was opened
        _wait_readable(fd)
