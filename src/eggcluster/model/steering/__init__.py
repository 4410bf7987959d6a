"""Decides which worker gets a new connection. Pure."""
