"""Entry of a worker process: `python -m eggcluster.worker CHANNEL_FD`, started by process mode and by nobody else."""

from eggcluster.worker.main import main

main()
