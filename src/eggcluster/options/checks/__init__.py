"""Checks of options against the machine and the application. Nothing is started or imported."""
