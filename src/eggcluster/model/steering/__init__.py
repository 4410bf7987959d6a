"""Decisions on which worker gets a new connection. Pure; runs in the master."""
