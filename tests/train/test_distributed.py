"""Two processes give the losses, gradients and weights of one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.runs import prepared, recipe_for, run_training
from tests.train.test_resume import copy_of

from sftprep.store.run import RunFolder
from sftprep.train.logs import read_steps


def on_two_ranks(base: Path, run: RunFolder, settings: dict[str, Any]) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("-m", "tests.train.ranks", base, run.root, json.dumps(settings)),
        ],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    base, alone = prepared(tmp_path / "alone")
    pair = copy_of(alone, tmp_path / "pair")
    run_training(recipe_for(base, batch_size=4), alone)
    on_two_ranks(base, pair, {"batch_size": 2})
    ours, theirs = read_steps(alone.steps), read_steps(pair.steps)
    assert [r.tokens_supervised for r in theirs] == [r.tokens_supervised for r in ours]
    for name in ("loss_nats", "grad_norm"):
        expected = [getattr(r, name) for r in ours]
        assert [getattr(r, name) for r in theirs] == pytest.approx(expected, rel=1e-4)
    assert [r.validation_loss_nats for r in theirs if r.validation_tokens] == pytest.approx(
        [r.validation_loss_nats for r in ours if r.validation_tokens], rel=1e-5
    )
    weights, others = (
        load_file(run.train_checkpoints / "latest" / "model" / "model.safetensors")
        for run in (alone, pair)
    )
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=0, atol=1e-4)
