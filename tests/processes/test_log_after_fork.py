"""The log handler in a process that an application forks."""

import logging
import os

from eggcluster.kernel.nonblocking_output import NonblockingOutput
from eggcluster.log_handler import LogHandler


def test_a_forked_child_does_not_write_its_parents_waiting_lines() -> None:
    read_end, write_end = os.pipe()
    handler = LogHandler(NonblockingOutput(write_end))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        for _ in range(100):
            logger.info("%s", "x" * 1000)
        child = os.fork()
        if child == 0:
            os._exit(bool(handler._buffer.size))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert handler._buffer.size
    finally:
        os.close(read_end)
        handler.finish()
        os.close(write_end)
