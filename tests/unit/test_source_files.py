"""The files that a worker reports: the application's own, and those that a failed import has read or missed."""

import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import eggcluster
from eggcluster.kernel.file_stamps import ABSENT, stamp_of
from eggcluster.worker.lifecycle.source_files import (
    SourceReporter,
    own_sources,
    source_files,
    sources_of_failure,
)
from tests.unit.conftest import Run
from tests.waiting import until


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base directory on the module path; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    return tmp_path


def paths(stamps: list[Any]) -> set[str]:
    return {stamp[0] for stamp in stamps}


def failure_of(name: str) -> BaseException:
    try:
        __import__(name)
    except BaseException as error:
        return error
    raise AssertionError(f"{name} can be imported")


def test_the_applications_own_files_are_reported(base: Path) -> None:
    (base / "shop.py").write_text("")
    __import__("shop")
    own = own_sources(str(base))
    assert stamp_of(str(base / "shop.py")) in own
    assert (str(base / ".env"), 0, ABSENT) in own
    foreign = (eggcluster.__file__, os.__file__, httpx.__file__)
    assert not paths(own) & set(foreign)
    assert httpx.__file__ in paths(source_files()), "a reload with another httpx takes the agent along"


@pytest.mark.parametrize(
    ("broken", "wanted"),
    [
        ("import helper", "helper.py"),
        ("import helper", "helper/__init__.py"),
        ("import nested.more", "nested/__init__.py"),
        ("import wrong", "wrong.py"),
        ("import raises", "raises.py"),
        ("try:\n    import raises\nexcept ValueError:\n    raise RuntimeError", "raises.py"),
    ],
)
def test_what_has_to_be_mended_is_among_the_files_of_a_failure(base: Path, broken: str, wanted: str) -> None:
    (base / "shop.py").write_text(broken)
    (base / "wrong.py").write_text("def x(:\n")
    (base / "raises.py").write_text("raise ValueError\n")
    found = paths(sources_of_failure(str(base), failure_of("shop")))
    assert {str(base / "shop.py"), str(base / wanted)} <= found


@pytest.mark.skipif(sys.version_info < (3, 12), reason="ImportError has no name_from")
def test_a_module_that_its_package_lacks_is_among_them(base: Path) -> None:
    (base / "package").mkdir()
    (base / "package" / "__init__.py").touch()
    (base / "shop.py").write_text("from package import part")
    assert str(base / "package" / "part.py") in paths(sources_of_failure(str(base), failure_of("shop")))


def test_what_is_imported_later_is_reported_once(run: Run, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eggcluster.worker.lifecycle.source_files.REPORT_INTERVAL", 0.001)
    reports: list[set[str]] = []

    async def scenario() -> None:
        SourceReporter(str(base), lambda action, details: reports.append(paths(details["sources"]))).start()
        assert len(reports) == 1
        (base / "late.py").write_text("")
        __import__("late")
        await until(lambda: len(reports) == 2)

    run(scenario())
    assert reports[1] == {str(base / "late.py")}
