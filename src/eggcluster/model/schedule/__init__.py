"""Decisions about scheduled and background functions. Pure."""
