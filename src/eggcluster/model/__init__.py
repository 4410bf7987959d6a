"""Decisions and bookkeeping, pure: no I/O, and clocks are arguments. Runs in all processes."""
