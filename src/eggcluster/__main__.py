"""`python -m eggcluster`: the same as the command `eggcluster`. Runs in the user's shell."""

from eggcluster.cli.main import main

main()
