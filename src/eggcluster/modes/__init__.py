"""The start modes: one interface, and one file for each mode. Runs in the master."""
