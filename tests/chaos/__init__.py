"""Faults at random under a load that is counted request by request: nothing fails but what a killed worker held."""
