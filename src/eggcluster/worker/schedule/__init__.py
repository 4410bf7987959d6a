"""The schedule: functions that run at given times, in the agent or in app workers. Only the agent keeps the times."""
