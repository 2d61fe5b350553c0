"""Fixtures of every test that starts from a healthy run folder."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.gate.example_run import write_run

from sftprep.store.run import RunFolder


def healthy_run(steps: int) -> Any:
    """A fixture: the folder of a run that passes every rule, written once."""

    @pytest.fixture(scope="session")
    def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_run(tmp_path_factory.mktemp("healthy") / "run", steps=steps).root

    return healthy


def own_copy(name: str) -> Any:
    """A fixture: a copy of the healthy run that a test may change."""

    @pytest.fixture
    def run(healthy: Path, tmp_path: Path) -> RunFolder:
        shutil.copytree(healthy, tmp_path / name)
        return RunFolder(tmp_path / name)

    return run
