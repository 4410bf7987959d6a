"""What the command line and the children ask of the master, and what it answers. Runs in the master."""
