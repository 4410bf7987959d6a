"""The agent's own part. Runs in the agent."""
