"""A healthy run folder, importable however pytest is started."""

import gc
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

gc.freeze()  # statsmodels' multipletests collects garbage in every call: 0.15 s without this

from tests.gate.fixtures import healthy_run, own_copy  # noqa: E402

healthy = healthy_run(steps=100)
run = own_copy("run")
