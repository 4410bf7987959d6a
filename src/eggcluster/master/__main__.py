"""Entry of a master that a program or `--daemon` starts: `-m eggcluster.master CHANNEL_FD`. Runs in the master."""

from eggcluster.kernel.process_end import run_and_exit
from eggcluster.master.master_process import main

run_and_exit(main)
