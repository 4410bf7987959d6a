"""The master's sockets, processes, signals and relaying. Runs in the master, which never runs application code."""
