"""What Python says about a signal that came a moment before the ending master ignored it."""

import subprocess
import sys

ENDING = """
import asyncio
from eggcluster.master.signals import MasterSignals

class Dropped:
    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error

async def main():
    with MasterSignals(print, print, on_hang_up=print):
        pass

asyncio.run(main())
Dropped(OSError("Signal 15 ignored due to race condition"))  # Python's words, from Modules/signalmodule.c
Dropped(OSError("something else"))
"""


def test_a_signal_a_moment_before_it_is_ignored_leaves_no_traceback_and_all_else_does() -> None:
    run = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60, check=True)
    assert "OSError: something else" in run.stderr
    assert "race condition" not in run.stderr
