"""Tests that start one process at a time, but no cluster."""
