"""What the counts and the lines of `said.py` look like. Runs in the agent, the app workers and the test."""

import struct

NUMBER = struct.Struct("=Q")  # a file has two: how many lines were begun, how many were logged
PADDING = 97  # the lines have all lengths up to this: one that was torn, or mixed with another, is told by its length
