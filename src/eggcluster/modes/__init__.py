"""Ways of having a worker: one interface, one file for each. Runs in the master."""
