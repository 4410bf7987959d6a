"""The entry of a worker process: `python -m eggcluster.worker CHANNEL_FD`. Only process mode starts it."""

import time

began = time.monotonic()  # before the imports, because the measurement includes them

from functools import partial  # noqa: E402

from eggcluster.kernel.process_end import run_and_exit  # noqa: E402
from eggcluster.worker.lifecycle.worker_process import main  # noqa: E402

run_and_exit(partial(main, began))
