"""Options that change in their file: a reload says that they stay as started."""

from pathlib import Path

import pytest

from eggcluster.master.option_file import OptionFile, difference
from eggcluster.options.sources import from_file
from tests.unit.conftest import Run
from tests.waiting import until

STAY = "(options stay as started; to change them, stop the cluster and start it)"


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ("workers = 2\nport = 1\n", ""),
        ("port = 1\nworkers = 2  # the same\n", ""),
        ("workers = 4\nport = 1\n", f"changed: eggcluster.toml: workers {STAY}"),
        ("workers = 2\nlog-level = 'DEBUG'\n", f"changed: eggcluster.toml: log-level, eggcluster.toml: port {STAY}"),
        ("wokers = 2\n", f'eggcluster.toml: wokers: is not an option; did you mean "workers"? {STAY}'),
        ("workers =", "eggcluster.toml: is not TOML: "),
        (None, f"changed: eggcluster.toml: port, eggcluster.toml: workers {STAY}"),
    ],
)
def test_what_has_changed_is_named(tmp_path: Path, now: str | None, told: str) -> None:
    path = tmp_path / "eggcluster.toml"
    path.write_text("workers = 2\nport = 1\n")
    before = from_file(str(tmp_path))
    path.unlink() if now is None else path.write_text(now)
    text = difference(before, from_file(str(tmp_path)))
    assert text == told or (told and text.startswith(told))


def test_the_file_is_read_beside_the_loop(run: Run, tmp_path: Path) -> None:
    told: list[str] = []

    async def work() -> None:
        file = OptionFile(str(tmp_path))
        (tmp_path / "eggcluster.toml").write_text("port = 1\n")
        file.look(told.append)
        await until(lambda: told)

    run(work())
    assert told == [f"changed: eggcluster.toml: port {STAY}"]
