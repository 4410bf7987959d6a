"""What the command line and the master share: the runtime directory and the pid file."""
