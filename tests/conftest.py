"""Hypothesis plays the same lives each time, so that a failure is the change's; the long suite looks for new ones."""

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True)
settings.load_profile("default" if os.environ.get("EGG_LONG") else "steady")
