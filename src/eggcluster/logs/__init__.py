"""The log of a process of ours: who speaks, in which form, to which handlers. Runs in the master and in every worker.

The application's logging is the application's. Our lines have loggers and handlers of their own (`own_loggers.py`), and
the root logger is a loan until the application has a handler for it (`root_log.py`). See docs/logging.md.
"""

from eggcluster.log_handler import LogHandler
from eggcluster.logs.configuration import configure_logs
from eggcluster.logs.log_escaping import Report
from eggcluster.logs.own_loggers import escape_own_lines, insist
from eggcluster.logs.root_log import application_booted, application_boots
from eggcluster.logs.speaker import name_speakers, set_speaker

__all__ = [
    "LogHandler",
    "Report",
    "application_booted",
    "application_boots",
    "configure_logs",
    "escape_own_lines",
    "insist",
    "name_speakers",
    "set_speaker",
]
