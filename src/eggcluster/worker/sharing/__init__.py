"""Shared clients and shared state. Runs in agent and app workers, if the application uses them."""
