"""The life of every worker, from its first line to its exit code. Runs in agent and app workers."""
