"""The file watcher: a process beside the master that tells it which files have changed."""
