"""The command line: flags to options, run, exit code. The only place that exits on behalf of a user's command."""
