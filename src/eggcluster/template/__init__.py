"""A process that forks workers: what runs in it, and nowhere else."""
