"""What runs only in the master: sockets, processes, signals, relaying. No application code, ever."""
