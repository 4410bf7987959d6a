"""Decisions about which worker gets a new connection. Pure."""
