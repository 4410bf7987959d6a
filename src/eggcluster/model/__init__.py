"""Decisions and bookkeeping, free of I/O. Runs wherever it is imported; clocks are arguments."""
