"""The entry of a worker process: `python -m eggcluster.worker CHANNEL_FD`. Only process mode starts it."""

import time

began = time.monotonic()  # before the imports, because the measurement includes them

from eggcluster.worker.lifecycle.worker_process import main  # noqa: E402

main(began)
