"""The report of a boot that failed: the application's own frames, and nothing of ours."""

import importlib
import sys
from pathlib import Path

import pytest

from eggcluster.errors import BootError, OptionsError
from eggcluster.worker.lifecycle.boot_report import describe_failure


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("broken_app", "broken_inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def failure_of_import() -> Exception:
    try:
        importlib.import_module("broken_app")
    except Exception as error:
        return error
    raise AssertionError("it can be imported")


def test_the_first_line_stands_alone_and_the_applications_frames_follow(broken: Path) -> None:
    (broken / "broken_inner.py").write_text("import nothing_of_that_name\n")
    (broken / "broken_app.py").write_text("import broken_inner\n")
    first, *rest = describe_failure(failure_of_import()).splitlines()
    assert first == "ModuleNotFoundError: No module named 'nothing_of_that_name'"
    text = "\n".join(rest)
    assert "broken_inner.py" in text
    assert "import nothing_of_that_name" in text
    assert "<frozen importlib" not in text


def test_a_syntax_error_shows_the_place(broken: Path) -> None:
    (broken / "broken_app.py").write_text("x = (\n")
    report = describe_failure(failure_of_import())
    assert report.startswith("SyntaxError: ")
    assert "broken_app.py" in report


def test_the_cause_is_told_too(broken: Path) -> None:
    (broken / "broken_app.py").write_text(
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('no database') from error\n"
    )
    report = describe_failure(failure_of_import())
    assert report.splitlines()[0] == "RuntimeError: no database"
    assert "ZeroDivisionError: division by zero" in report
    assert "direct cause" in report


@pytest.mark.parametrize("kind", [OptionsError, BootError])
def test_our_own_errors_are_finished_texts(kind: type[Exception]) -> None:
    assert describe_failure(kind("app: ...")) == "app: ..."


def test_an_exception_without_a_text_has_its_name() -> None:
    assert describe_failure(RuntimeError()).splitlines()[0] == "RuntimeError"


def test_a_text_of_several_lines_does_not_hide_what_it_is() -> None:
    report = describe_failure(ValueError("one\ntwo"))
    assert report.splitlines()[0].startswith("ValueError: one")


def test_an_exception_group_is_told_as_a_whole() -> None:
    report = describe_failure(ExceptionGroup("several", [ValueError("first"), KeyError("second")]))
    assert report.splitlines()[0] == "ExceptionGroup: several (2 sub-exceptions)"
    assert "ValueError: first" in report
