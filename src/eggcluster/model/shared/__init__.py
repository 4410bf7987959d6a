"""Decisions about the shared dictionary. Pure."""
