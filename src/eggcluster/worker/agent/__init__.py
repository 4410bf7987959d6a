"""The agent's own part."""
