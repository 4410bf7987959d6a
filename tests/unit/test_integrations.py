"""The integrations load nothing that is not used, and say what to install where their library is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

import eggcluster.integrations

LIBRARIES = {
    "django": "django",
    "limits": "limits",
    "socketio": "socketio",
}  # integration -> the library that it is for
HELPERS = {"culling", "rate_counter"}  # no integrations: what these are made of


def said(source: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout


def test_each_module_is_an_integration_or_a_helper() -> None:
    modules = {path.stem for path in Path(eggcluster.integrations.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules == LIBRARIES.keys() | HELPERS


@pytest.mark.parametrize("module", ["", ".integrations", *(f".integrations.{name}" for name in LIBRARIES)])
def test_only_an_integration_s_own_library_is_loaded(module: str) -> None:
    source = f"import sys, eggcluster{module}; print(*sorted({set(LIBRARIES.values())!r} & sys.modules.keys()))"
    assert said(source).split() == [library for name, library in LIBRARIES.items() if module.endswith(f".{name}")]


@pytest.mark.parametrize(("module", "library"), LIBRARIES.items())
def test_a_missing_library_is_one_line(module: str, library: str) -> None:
    source = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *more):\n"
        f"        if name == {library!r}: raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"try: import eggcluster.integrations.{module}\n"
        "except ImportError as error: print(error)"
    )
    assert said(source) == f"eggcluster.integrations.{module} needs a library: pip install 'eggcluster[{module}]'\n"
