"""Decisions about the shared dictionary. Pure; runs in all workers."""
