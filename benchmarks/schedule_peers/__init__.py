"""The applications that the benchmark of the schedule runs: ours, and APScheduler's."""
