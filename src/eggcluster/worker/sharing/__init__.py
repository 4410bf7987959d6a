"""What the agent's workers have in common: shared clients and shared state. Runs in agent and app workers, if used."""
