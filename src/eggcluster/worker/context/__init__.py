"""What the running worker is, and what its code has registered. Runs in all workers."""
