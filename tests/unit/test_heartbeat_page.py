"""A worker writes its heartbeat page, and the master reads it: no number touches another one."""

import os
from array import array

import pytest

from eggcluster.ipc.heartbeat_page import NUMBERS_BYTES, HeartbeatPage
from eggcluster.model.lives.worker import Heartbeat


def test_the_numbers_do_not_touch_each_other() -> None:
    page = HeartbeatPage.create("test")
    try:
        heartbeat = Heartbeat(
            beat=1.5, lag=0.25, requests=2, connections=3, accepting=False, accepted=4, full=True, lost_threads=6
        )
        page.messages[:] = memoryview(array("Q", range(1, len(page.messages) + 1)))
        page.write(heartbeat)
        assert page.read() == heartbeat
        page.messages[0] = 6
        assert (page.read(), page.messages[:3].tolist()) == (heartbeat, [6, 2, 3])
        assert not page.cluster_closes()
        page.write_cluster_closes()
        page.write(heartbeat)
        assert (page.read(), page.messages[:3].tolist(), page.cluster_closes()) == (heartbeat, [6, 2, 3], True)
    finally:
        page.close()


def test_the_file_cannot_be_made_shorter() -> None:
    """Reading a mapped page behind the end of its file is a SIGBUS: a worker could kill the master."""
    page = HeartbeatPage.create("test")
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(page.fd, 0)
        page.write_final_message("the end")
        assert (page.read().beat, page.final_message()) == (0, "the end")
    finally:
        page.close()


def test_the_final_message_is_printable_text_whatever_was_written() -> None:
    page = HeartbeatPage.create("test")
    try:
        os.pwrite(page.fd, b"Stack:\n\tfile \xc3\xa9\x1b[2J\0\xff", NUMBERS_BYTES)
        assert page.final_message() == "Stack:\n\tfile é\ufffd[2J\ufffd\ufffd"
    finally:
        page.close()
