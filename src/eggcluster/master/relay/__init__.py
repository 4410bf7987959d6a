"""Relaying messages between agent, app workers and parent. Runs in the master."""
