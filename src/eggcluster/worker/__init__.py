"""The code of the agent and the app workers, in every start mode. Application code runs only here."""
