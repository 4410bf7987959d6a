"""Runs a command as the leader of a session whose terminal is the given one: `in_terminal.py TERMINAL COMMAND...`."""

import os
import signal
import sys

os.setsid()
signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it; here it is typed
terminal = os.open(sys.argv[1], os.O_RDWR)  # the leader of a session without a terminal gets the one that it opens
os.dup2(terminal, 0)
os.execvp(sys.argv[2], sys.argv[2:])
