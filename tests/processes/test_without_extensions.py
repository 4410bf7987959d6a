"""A worker's side without the extension modules that a subinterpreter cannot load."""

import subprocess
import sys

import pytest

from tests.interpreters import EXTENSIONS, worker_modules

IMPORT = "import importlib\nfor name in {names}: importlib.import_module(name)\n"


def test_the_list_of_a_workers_modules_is_no_empty_one() -> None:
    assert {
        "eggcluster.worker.app.app_lifecycle",
        "eggcluster.worker.agent.agent_lifecycle",
        "eggcluster.ipc.messenger",
    } <= set(worker_modules())


def test_a_workers_side_loads_without_them() -> None:
    without = f"import sys\nsys.modules.update(dict.fromkeys({EXTENSIONS}))\n"
    code = without + IMPORT.format(names=worker_modules())
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="subinterpreters are of Python 3.14")
def test_a_workers_side_loads_in_a_subinterpreter() -> None:
    code = "from concurrent import interpreters\ninterpreter = interpreters.create()\n"
    code += f"interpreter.exec({IMPORT.format(names=worker_modules())!r})\ninterpreter.close()\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
