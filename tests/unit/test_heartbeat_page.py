"""What a worker writes into its vital record, and the master reads there: each number has its own place."""

import os

import pytest

from eggcluster.ipc.heartbeat_page import HeartbeatPage
from eggcluster.model.lives.worker import Heartbeat


def test_the_signs_and_how_much_was_read_do_not_touch_each_other() -> None:
    record = HeartbeatPage.create("test")
    try:
        signs = Heartbeat(beat=1.5, lag=0.25, requests=2, connections=3, accepting=False, accepted=4)
        record.write_messages_read(5)
        record.write(signs)
        assert record.read() == signs
        assert record.messages_read() == 5
        record.write_messages_read(6)
        assert (record.read(), record.messages_read()) == (signs, 6)
    finally:
        record.close()


def test_who_has_the_file_cannot_take_the_page_away_that_the_master_reads() -> None:
    """A page of a file that became shorter is a SIGBUS."""
    record = HeartbeatPage.create("test")
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(record.fd, 0)
        record.write_final_message("farewell")
        assert (record.read().beat, record.final_message()) == (0, "farewell")
    finally:
        record.close()


def test_last_words_are_text_whatever_was_written() -> None:
    record = HeartbeatPage.create("test")
    try:
        os.pwrite(record.fd, b"Stack:\n\tfile \xc3\xa9\x1b[2J\0\xff", 4096)
        assert record.final_message() == "Stack:\n\tfile é\ufffd[2J\ufffd\ufffd"
    finally:
        record.close()
