"""Entry of a master that a program or `--daemon` started: `python -m eggcluster.master CHANNEL_FD`."""

from eggcluster.master.master_process import main

main()
