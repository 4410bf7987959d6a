"""What we ask of the operating system: CPUs, process trees, signals of parents. Runs in every process."""
