"""The schedule: functions that run at given times, in the agent or in app workers. The agent alone keeps the times."""
