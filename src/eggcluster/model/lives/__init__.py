"""Decisions about the lives of workers: start, stop, replacement, recycling. Pure; runs in the master."""
