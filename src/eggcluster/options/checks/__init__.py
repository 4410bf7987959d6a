"""Checks of options against the machine and the application. Runs in the process that starts a cluster.

Nothing is started, and no module of the application is imported. Each check yields an error line for each problem.
"""
