"""A healthy run folder, importable however pytest is started."""

import shutil
import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from tests.gate.fixtures import healthy_run, own_copy  # noqa: E402

from sftprep.store.run import RunFolder  # noqa: E402

healthy = healthy_run(steps=40)
run = own_copy("sft")


@pytest.fixture
def other(run: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(run.root, tmp_path / "dpo")
    return RunFolder(tmp_path / "dpo")
