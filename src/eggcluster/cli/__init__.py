"""The command line: from flags to options, a run and an exit code. Runs in the user's shell.

The only place that exits on behalf of a user's command.
"""
