"""Several processes give the losses, gradients and weights of one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from tests.pipeline.conftest import write_small_recipe
from tests.train.ranks import free_port
from tests.train.runs import prepared, recipe_for, run_training
from tests.train.test_resume import StopAt, copy_of
from torch import nn
from torch.distributed.tensor import DTensor

from sftprep.errors import Interrupted
from sftprep.store.durable import read_json
from sftprep.store.run import RunFolder
from sftprep.train.distributed import World, reshard, shard
from sftprep.train.logs import read_steps

ROOT = Path(__file__).parents[2]


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start torchrun."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def torchrun(count: int, *command: object) -> str:
    """Run a module in that many processes; what they said."""
    launcher = start("--standalone", f"--nproc-per-node={count}", "-m", *command)
    said, _ = launcher.communicate(timeout=280)
    assert launcher.returncode == 0, said[-6000:]
    return said


def on_ranks(
    count: int, base: Path, run: RunFolder, settings: dict[str, Any], *numbers: int
) -> None:
    """Train on that many processes (`numbers`: of one machine; steps after which to stop)."""
    command = ("tests.train.ranks", base, run.root, json.dumps(settings), count, *numbers)
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]


def on_machines(base: Path, run: RunFolder, settings: dict[str, Any]) -> None:
    """Two launchers of two processes each, as on two machines."""
    place = ("--nnodes=2", "--nproc-per-node=2", f"--master-port={free_port()}")
    command = ("-m", "tests.train.ranks", base, run.root, json.dumps(settings), 0)
    launchers = [
        start(*place, "--master-addr=127.0.0.1", f"--node-rank={n}", *command) for n in (0, 1)
    ]
    for launcher in launchers:
        said, _ = launcher.communicate(timeout=280)
        assert launcher.returncode == 0, said[-6000:]


def same_training(run: RunFolder, alone: RunFolder) -> None:
    """Losses within 1e-5 (relative), held-out losses too, weights within 1e-4."""
    ours, theirs = read_steps(alone.steps), read_steps(run.steps)
    assert [r.tokens_supervised for r in theirs] == [r.tokens_supervised for r in ours]
    for name, limit in (("loss_nats", 1e-5), ("grad_norm", 1e-4)):
        expected = [getattr(r, name) for r in ours]
        assert [getattr(r, name) for r in theirs] == pytest.approx(expected, rel=limit)
    assert [r.validation_loss_nats for r in theirs if r.validation_tokens] == pytest.approx(
        [r.validation_loss_nats for r in ours if r.validation_tokens], rel=1e-5
    )
    weights, others = (
        load_file(one.train_checkpoints / "latest" / "model" / "model.safetensors")
        for one in (alone, run)
    )
    assert set(others) == set(weights)
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    base, run = prepared(tmp_path_factory.mktemp("alone"))
    run_training(recipe_for(base, batch_size=4), run)
    return base, run


def test_weights_are_whole_after_a_forward_alone_until_they_are_split_again(
    tmp_path: Path,
) -> None:
    """Whole weights have no gradient: a norm over them would miss the head and the embeddings."""
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        root = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        shard(root, [root[0]], World(0, 1, "cpu"), hybrid=False)
        with torch.no_grad():
            root(torch.zeros(1, 2))
        assert [isinstance(w, DTensor) for w in root[1].parameters()] == [False, False]
        reshard(root)
        assert [isinstance(w, DTensor) for w in root[1].parameters()] == [True, True]
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_equal_one(alone: tuple[Path, RunFolder], tmp_path: Path, parallel: str) -> None:
    base, single = alone
    run = copy_of(single, tmp_path / "pair")
    on_ranks(2, base, run, {"batch_size": 2, "parallel": parallel})
    same_training(run, single)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_four_ranks_equal_one(alone: tuple[Path, RunFolder], tmp_path: Path, parallel: str) -> None:
    base, single = alone
    run = copy_of(single, tmp_path / "ranks")
    on_ranks(4, base, run, {"batch_size": 1, "parallel": parallel})
    same_training(run, single)


@pytest.mark.slow
def test_copies_of_shards_equal_one(alone: tuple[Path, RunFolder], tmp_path: Path) -> None:
    base, single = alone
    run = copy_of(single, tmp_path / "hybrid")
    on_ranks(4, base, run, {"batch_size": 1, "parallel": "hsdp"}, 2)
    same_training(run, single)


@pytest.mark.slow
def test_two_launchers_of_two_processes_equal_one(
    alone: tuple[Path, RunFolder], tmp_path: Path
) -> None:
    base, single = alone
    run = copy_of(single, tmp_path / "machines")
    on_machines(base, run, {"batch_size": 1, "parallel": "hsdp"})
    same_training(run, single)


def test_adapters_start_alike_on_every_rank(tmp_path: Path) -> None:
    settings = {"method": "lora", "lora_rank": 4, "max_steps": 3}
    base, single = prepared(tmp_path / "alone")
    run = copy_of(single, tmp_path / "pair")
    run_training(recipe_for(base, batch_size=4, **settings), single)
    on_ranks(2, base, run, {"batch_size": 2, **settings})
    same_training(run, single)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "training"),
    [
        ({"tie_word_embeddings": False}, {}),
        ({}, {"method": "lora", "lora_rank": 4}),
        ({}, {"method": "lora", "lora_rank": 4, "lora_weight_decomposed": True}),
        ({}, {"gradient_checkpointing": "on"}),
    ],
    ids=["untied", "lora", "dora", "checkpointing"],
)
def test_shards_equal_one_whatever_is_trained(
    tmp_path: Path, model: dict[str, Any], training: dict[str, Any]
) -> None:
    base, single = prepared(tmp_path / "alone", **model)
    run = copy_of(single, tmp_path / "shards")
    run_training(recipe_for(base, batch_size=4, **training), single)
    on_ranks(2, base, run, {"batch_size": 2, "parallel": "fsdp", **training})
    same_training(run, single)


@pytest.mark.slow
def test_shards_equal_one_when_a_rank_has_fewer_batches(tmp_path: Path) -> None:
    """60 rows in 8 steps are 7 or 8 rows for two ranks with up to 4 batches of one row each."""
    base, single = prepared(tmp_path / "alone")
    run = copy_of(single, tmp_path / "shards")
    settings = {"max_length": 100, "gradient_accumulation_steps": 4}
    run_training(recipe_for(base, batch_size=2, **settings), single)
    on_ranks(2, base, run, {"batch_size": 1, "parallel": "fsdp", **settings})
    same_training(run, single)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_run_continues_on_another_number_of_ranks(
    alone: tuple[Path, RunFolder], tmp_path: Path, parallel: str
) -> None:
    """One process, then two, then one: the same rows per step, the same losses."""
    base, single = alone
    run = copy_of(single, tmp_path / "elastic")
    recipe = recipe_for(base, batch_size=4)
    with pytest.raises(Interrupted):
        run_training(recipe, run, StopAt(9))
    assert len(read_steps(run.steps)) < 4
    on_ranks(2, base, run, {"batch_size": 4, "parallel": parallel}, 2, 7)
    assert len(read_steps(run.steps)) == 7
    assert run_training(recipe, run).stopped == "completed"
    same_training(run, single)


@pytest.mark.slow
def test_run_command_under_torchrun_works_once_and_writes_from_rank_0(tmp_path: Path) -> None:
    """Rank 0 holds the lock and does every stage; the others only train."""
    recipe = write_small_recipe(tmp_path)
    for done_before in (False, True):
        said = torchrun(2, "sftprep", "run", recipe, "--until", "train")
        assert ("done before, unchanged" in said) is done_before
    events = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    started = [json.loads(e)["stage"] for e in events if "stage_started" in e]
    assert started == ["models", "data", "plan", "train"]
    assert [r.step for r in read_steps(RunFolder(tmp_path / "run").steps)] == list(range(1, 13))


@pytest.mark.slow
def test_a_signal_to_every_process_as_slurm_sends_it_saves_and_the_next_start_continues(
    tmp_path: Path,
) -> None:
    recipe, run = write_small_recipe(tmp_path), RunFolder(tmp_path / "run")
    command = ("sftprep", "run", recipe, "--until", "train", "--set", "training.max_steps=60")
    launcher = start("--standalone", "--nproc-per-node=2", "-m", *command)
    while len(read_steps(run.steps)) < 3:
        assert launcher.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert len(children) == 2
    for process in (*map(int, children), launcher.pid):  # torchrun passes its own on
        os.kill(process, signal.SIGTERM)
    said, _ = launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    assert read_json(run.root / "run.json")["stages"]["train"]["status"] == "stopped", said
    steps = len(read_steps(run.steps))
    assert 3 <= steps < 60
    assert read_json(run.train_checkpoints / "latest" / "about.json")["step"] == steps
    assert f"continuing from step-{steps}" in torchrun(2, *command)
    assert [r.step for r in read_steps(run.steps)] == list(range(1, 61))
