"""Decisions about scheduled and background functions. Pure; runs in all workers."""
