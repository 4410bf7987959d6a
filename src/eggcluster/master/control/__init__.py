"""Requests to the master, from the command line and from its children, and the answers. Runs in the master."""
