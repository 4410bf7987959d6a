"""The orders that the master gives a worker in its own process, where a process would get signals: one byte each."""

CLOSE = b"T"  # as SIGTERM
TELL = b"A"  # as SIGABRT: write where you are; the same comes back when it is written
