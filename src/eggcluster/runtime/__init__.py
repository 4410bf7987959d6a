"""What the command line and the master share: runtime directory and pid file. Runs in the shell and the master."""
