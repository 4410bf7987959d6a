"""uvicorn without its command line: lean, and still whole for an application that asks for it."""

import subprocess
import sys

LEAN = """
import sys
from eggcluster.worker.engines.slim_uvicorn import import_uvicorn
import_uvicorn()
import eggcluster.worker.engines.uvicorn_engine
print(sorted({"click", "multiprocessing", "uvicorn.main"} & set(sys.modules)))
"""

WHOLE = """
from eggcluster.worker.engines.slim_uvicorn import import_uvicorn
import_uvicorn()
import uvicorn
assert uvicorn.Config and uvicorn.Server.__module__ == "uvicorn.server"
try:
    uvicorn.run("no_such_module:app", log_level="critical")
except SystemExit:
    print("ran")
from uvicorn.main import main, run
print(main.name, run.__module__)
"""


def output(source: str) -> str:
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60).stdout


def test_neither_click_nor_multiprocessing_is_loaded() -> None:
    assert output(LEAN).strip() == "[]"


def test_an_application_gets_the_real_command_line_when_it_asks_for_it() -> None:
    assert output(WHOLE).split() == ["ran", "main", "uvicorn.main"]
