"""Entry of a worker process: `python -m eggcluster.worker CHANNEL_FD`, started by process mode only."""

import time

began = time.monotonic()  # before the imports, which are a part of what is measured

from eggcluster.worker.lifecycle.worker_process import main  # noqa: E402

main(began)
