"""Entry of a master that a program or `--daemon` starts: `-m eggcluster.master CHANNEL_FD`. Runs in the master."""

from eggcluster.master.master_process import main

main()
