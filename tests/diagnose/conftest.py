"""A healthy run folder, importable however pytest is started."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from tests.gate.fixtures import healthy_run, own_copy  # noqa: E402

healthy = healthy_run(steps=100)
run = own_copy("run")
