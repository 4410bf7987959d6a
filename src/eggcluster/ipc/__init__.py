"""Two ends of a socket pair talking: frames, channels, the messenger. Runs in master, agent, workers and parent."""
