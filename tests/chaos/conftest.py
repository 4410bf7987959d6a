"""Fixtures of the chaos tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Project, projects


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty project."""
    yield from projects(tmp_path)
