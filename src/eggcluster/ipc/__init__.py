"""The two ends of a socket pair: frames, channels, the messenger. Runs in the master, all workers and the parent."""
