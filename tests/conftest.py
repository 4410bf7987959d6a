"""What holds for all tests: hypothesis plays the same lives each time, and reports are text that xdist can send.

A failure is then the change's; the long suite looks for new lives. An example may take its time: the machine may be
busy.
"""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("searching", deadline=None)
settings.load_profile("searching" if os.environ.get("EGG_LONG") else "steady")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in what a test has logged and printed. xdist sends it as UTF-8, and a report that it
    cannot send ends the whole run with an internal error."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
