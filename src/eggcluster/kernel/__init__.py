"""What eggcluster asks of the operating system: CPUs, sockets, processes, signals. Runs in every process."""
