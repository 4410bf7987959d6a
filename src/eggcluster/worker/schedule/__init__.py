"""The schedule: functions that run at given times, each in the right place. The agent alone keeps the times."""
