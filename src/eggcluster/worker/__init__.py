"""What runs in the agent and in the app workers, whatever the start mode; the only place with application code."""
