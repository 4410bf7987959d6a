"""Options from `pyproject.toml` and `eggcluster.toml`."""

from pathlib import Path

import pytest

from eggcluster.errors import OptionsError
from eggcluster.options import ClusterOptions, parse_options


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text("async def app(scope, receive, send): ...\n")
    return tmp_path


def parse(base: Path) -> ClusterOptions:
    return parse_options(environ={}, base_dir=str(base))


def problems(base: Path) -> list[str]:
    with pytest.raises(OptionsError) as caught:
        parse(base)
    return caught.value.problems


@pytest.mark.parametrize(("file", "head"), [("pyproject.toml", "[tool.eggcluster]\n"), ("eggcluster.toml", "")])
def test_keys_with_dashes_and_underscores(base: Path, file: str, head: str) -> None:
    (base / file).write_text(head + 'app-close-timeout = 100\nlog_format = "json"\nheaders = ["a:b"]\nports=[5, 6]\n')
    options = parse(base)
    assert (options.app_close_timeout, options.log_format) == (100, "json")
    assert (options.headers, options.ports, options.workers) == (("a:b",), (5, 6), 2)


def test_unknown_key_with_a_near_miss(base: Path) -> None:
    (base / "pyproject.toml").write_text("[tool.eggcluster]\nworker = 3\n")
    assert problems(base) == ['pyproject.toml: worker: is not an option; did you mean "workers"?']


@pytest.mark.parametrize("value", ["0", '"4"', "true", "[4]", "1.5"])
def test_wrong_type_or_value(base: Path, value: str) -> None:
    (base / "eggcluster.toml").write_text(f"workers = {value}\n")
    [line] = problems(base)
    assert line.startswith("eggcluster.toml: workers: ")
    assert line.endswith('is not a number of workers from 1 to 1024, or "auto"')


@pytest.mark.parametrize("file", ["pyproject.toml", "eggcluster.toml"])
def test_a_file_that_does_not_parse(base: Path, file: str) -> None:
    (base / file).write_text("[tool.eggcluster]\nworkers = = 3\n")
    [line] = problems(base)
    assert line == f"{file}: is not TOML: Invalid value (at line 2, column 11)"


def test_a_file_that_is_not_utf8(base: Path) -> None:
    (base / "eggcluster.toml").write_bytes(b'\nname = "\xff"\n')
    assert problems(base) == ["eggcluster.toml: is not UTF-8 (at line 2, column 9)"]


def test_a_file_that_is_nested_without_end(base: Path) -> None:
    (base / "eggcluster.toml").write_text(f"name = {'[' * 100_000}")
    assert problems(base) == ["eggcluster.toml: cannot be read: its TOML is nested too deeply"]


def test_a_file_with_a_number_without_end(base: Path) -> None:
    (base / "eggcluster.toml").write_text(f"workers = {'9' * 100_000}")
    [line] = problems(base)
    assert line.startswith("eggcluster.toml: is not TOML: ")


def test_a_project_file_that_does_not_speak_of_us_is_left_alone(base: Path) -> None:
    (base / "pyproject.toml").write_text("[project\n")
    assert parse(base).app == "app:app"


def test_both_files(base: Path) -> None:
    (base / "pyproject.toml").write_text("[tool.eggcluster]\nworkers = 3\n")
    (base / "eggcluster.toml").write_text("workers = 3\n")
    [line] = problems(base)
    assert line == "pyproject.toml has [tool.eggcluster], and eggcluster.toml exists, too; keep one of them"


def test_a_project_file_without_our_table_is_no_rival(base: Path) -> None:
    (base / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["eggcluster"]\n')
    (base / "eggcluster.toml").write_text("workers = 3\n")
    assert parse(base).workers == 3


def test_our_name_for_something_else(base: Path) -> None:
    (base / "pyproject.toml").write_text("[tool]\neggcluster = 3\n")
    assert problems(base) == ["pyproject.toml: tool.eggcluster: 3 is not a table of options"]


def test_a_key_twice(base: Path) -> None:
    (base / "eggcluster.toml").write_text("log-level = 'INFO'\nlog_level = 'INFO'\n")
    [line] = problems(base)
    assert line == "eggcluster.toml: log_level: is given twice, with dashes and with underscores; give it once"


def test_base_dir_cannot_come_from_the_file_it_leads_to(base: Path) -> None:
    (base / "eggcluster.toml").write_text("base_dir = '/'\n")
    [line] = problems(base)
    assert (
        line == "eggcluster.toml: base_dir: cannot be set in a file, because it says where the file is; use --base-dir"
    )


def test_relative_paths_begin_at_the_file(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "eggcluster.toml").write_text("pid-file = 'pid'\n")
    monkeypatch.chdir("/")
    assert parse(base).pid_file == str(base / "pid")


def test_excluding_each_other_in_the_file(base: Path) -> None:
    (base / "eggcluster.toml").write_text("uds = 's'\nport = 1\n")
    expected = "eggcluster.toml: uds and eggcluster.toml: port exclude each other; give one of them"
    assert problems(base) == [expected]
