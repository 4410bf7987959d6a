"""Programs of others that tests run: found, and ended."""

import os
import shutil
import subprocess

import pytest

from tests.waiting import DEADLINE

PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))  # not on every user's


def program(*names: str) -> str:
    """The path of the first that is installed; the test is skipped where none is."""
    for name in names:
        if path := shutil.which(name, path=PLACES):
            return path
    pytest.skip(f"{' or '.join(names)} is not installed")


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and wait; SIGKILL, and an error, for what does not obey."""
    process.terminate()
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
