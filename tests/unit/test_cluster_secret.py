"""`eggcluster.secret` and `--secret-file`: how keys are derived, and which files are refused."""

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

import eggcluster
from eggcluster.errors import OptionsError
from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.master.cluster_secret import cluster_secret
from eggcluster.options import ResolvedOptions, parse_options

MATERIAL = bytes(range(40))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text("def app(environ, start_response): ...\n")
    return tmp_path


def secret_file(base: Path, content: bytes = MATERIAL, mode: int = 0o600) -> Path:
    path = base / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def parse(base: Path, **options: Any) -> ResolvedOptions:
    return parse_options(base_dir=str(base), environ={}, **options)


def test_outside_of_a_cluster_the_error_says_where_to_call_it() -> None:
    with pytest.raises(eggcluster.NoSecret, match="call this in an app worker or in the agent"):
        eggcluster.secret("cookies")


def test_a_purpose_is_text_that_says_something() -> None:
    with pytest.raises(ValueError, match="the purpose is empty"):
        eggcluster.secret("")
    with pytest.raises(TypeError, match="is not a purpose"):
        eggcluster.secret(b"cookies")  # type: ignore[arg-type]


def test_the_secret_of_a_file_is_hkdf_extract_of_its_bytes(base: Path) -> None:
    options = parse(base, secret_file=str(secret_file(base)))
    assert cluster_secret(options) == hmac.new(b"eggcluster", MATERIAL, hashlib.sha256).digest()


def test_without_a_file_every_start_has_another_secret(base: Path) -> None:
    first, second = (cluster_secret(parse(base)) for _ in range(2))
    assert len(first) == len(second) == 32
    assert first != second


def test_a_file_that_is_gone_after_the_check_is_a_bad_option(base: Path) -> None:
    path = secret_file(base)
    options = parse(base, secret_file=str(path))
    path.unlink()
    with pytest.raises(OptionsError, match=r"secret_file: .* cannot be read: No such file"):
        cluster_secret(options)


@pytest.mark.parametrize(
    ("length", "mode", "why"),
    [
        (40, 0o640, "may be used by others .mode 0640.; chmod 600 it"),
        (40, 0o604, "may be used by others .mode 0604.; chmod 600 it"),
        (31, 0o600, "has 31 bytes; use at least 32"),
        (65537, 0o600, "has 65537 bytes; .* at most 65536"),
    ],
)
def test_a_file_that_is_no_secret_is_refused_in_one_line(base: Path, length: int, mode: int, why: str) -> None:
    with pytest.raises(OptionsError, match=f"^secret_file: .* {why}") as caught:  # the path may be cut
        parse(base, secret_file=str(secret_file(base, bytes(length), mode)))
    assert len(caught.value.problems) == 1


def test_a_missing_file_is_refused(base: Path) -> None:
    with pytest.raises(OptionsError, match="does not exist; name an existing file"):
        parse(base, secret_file="none")


def test_a_worker_spec_never_shows_its_secret(base: Path) -> None:
    spec = WorkerSpec("app", 1, 2, "1-a", parse(base), secret=b"hidden!!")
    assert repr(spec) == "<WorkerSpec app#1 gen 2>"
