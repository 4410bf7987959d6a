"""`python -m eggcluster`: the same as the command `eggcluster`."""

from eggcluster.cli.main import main

main()
