"""A process of several is lost: the launcher ends all, and the same command continues."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.pipeline.conftest import write_small_recipe

from sftprep.store.durable import read_json, read_jsonl
from sftprep.store.run import RunFolder

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def launch(recipe: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LAUNCH, "-m", "sftprep", "run", str(recipe), "--until", "train",
         "--set", "training.max_steps=40"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def lose(launcher: subprocess.Popen[str], run: RunFolder, rank: str) -> None:
    """Kill the process of this rank once a checkpoint is there."""
    while not list(run.train_checkpoints.glob("step-4/MANIFEST.json")):
        assert launcher.poll() is None, launcher.communicate()[0][-3000:]
        time.sleep(0.02)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    for process in children:
        if f"\0RANK={rank}\0".encode() in Path(f"/proc/{process}/environ").read_bytes():
            os.kill(int(process), signal.SIGKILL)
            return
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.slow
@pytest.mark.timeout(290)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_lost_rank_ends_all_and_the_same_command_continues(rank: str, tmp_path: Path) -> None:
    recipe, run = write_small_recipe(tmp_path), RunFolder(tmp_path / "run")
    launcher = launch(recipe)
    lose(launcher, run, rank)
    launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    assert read_json(run.state)["stages"]["train"]["status"] != "done"
    again = launch(recipe)
    said, _ = again.communicate(timeout=200)
    assert again.returncode == 0, said[-4000:]
    assert "continuing from step-" in said
    assert [row["step"] for row in read_jsonl(run.steps)] == list(range(1, 41))
