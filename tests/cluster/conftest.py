"""Fixtures of the tests with real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import AGENT, HELLO, Launched, Project, projects


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty project."""
    yield from projects(tmp_path)


@pytest.fixture
def hello(project: Project) -> Launched:
    """A running cluster of two workers and an agent."""
    return project.write(app=HELLO, agent=AGENT).start("--workers", "2").wait_ready()
