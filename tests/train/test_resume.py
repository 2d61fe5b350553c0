"""Killed, stopped or damaged: the same command ends bit for bit where an undisturbed run ends."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.runs import prepared, recipe_for, run_training

from sftprep.errors import Interrupted, TrainingError
from sftprep.progress import Progress
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json, read_jsonl, seal, sha256_file
from sftprep.store.run import RunFolder
from sftprep.train.checkpoint import SealedModel, save_model_copy
from sftprep.train.loop import train

DROPOUT = 0.1


def outcome(run: RunFolder) -> dict[str, Any]:
    """Everything that must be equal: all tensors and all log rows, without clock and memory."""
    files = [
        *sorted(run.train_checkpoints.glob("*/model/model.safetensors")),
        *sorted(run.train_checkpoints.glob("step-*/*.safetensors")),
    ]
    machine = ("seconds", "memory_bytes")
    steps = [{k: v for k, v in row.items() if k not in machine} for row in read_jsonl(run.steps)]
    return {
        "files": {str(f.relative_to(run.root)): sha256_file(f) for f in files},
        "steps": steps,
        "flags": read_jsonl(run.flags),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    base, run = prepared(tmp_path_factory.mktemp("undisturbed"), dropout=DROPOUT)
    run_training(recipe_for(base), run)
    return base, run


def copy_of(run: RunFolder, target: Path) -> RunFolder:
    """The run's data, without what training wrote."""
    shutil.copytree(run.data, target / "data")
    return RunFolder(target)


def test_the_undisturbed_run_is_complete(undisturbed: tuple[Path, RunFolder]) -> None:
    found = outcome(undisturbed[1])
    assert [row["step"] for row in found["steps"]] == list(range(1, 13))
    assert {Path(f).parts[2] for f in found["files"]} == {
        "best_train",
        "best_validation",
        "latest",
        "step-12",
        "step-8",
    }


def test_killed_at_any_place_it_ends_bit_equal(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path
) -> None:
    base, straight = undisturbed
    run = copy_of(straight, tmp_path / "killed")
    places = [
        ("poll", 3),  # before anything is saved
        ("poll", 12),  # mid-accumulation
        ("sync", 9),  # inside the first checkpoint
        ("sync", 30),
        ("poll", 7),
        ("sync", 12),
        ("poll", 4),
    ]
    lines = killed(base, run, {"async_checkpoints": "off"}, places)
    assert lines == [*(f"{kind} {n} killed" for kind, n in places), "none 0 status 0"]
    assert outcome(run) == outcome(straight)


def killed(
    base: Path, run: RunFolder, settings: dict[str, Any], places: list[tuple[str, int]]
) -> list[str]:
    """Train with a kill -9 at each place; what became of each process."""
    command = (sys.executable, "-m", "tests.train.killer", str(base), str(run.root))
    done = subprocess.run(
        [*command, json.dumps(settings), json.dumps(places)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def into_the_second_epoch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    """60 rows in steps of 4 are 15 steps an epoch: 21 steps, with validations at 4, 8, ... 21."""
    base, run = prepared(tmp_path_factory.mktemp("epochs"), dropout=DROPOUT)
    run_training(recipe_for(base, epochs=1.4), run)
    return base, run


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_random_places_it_ends_bit_equal(
    into_the_second_epoch: tuple[Path, RunFolder], tmp_path: Path, seed: int
) -> None:
    base, straight = into_the_second_epoch
    assert [row["step"] for row in outcome(straight)["steps"]] == list(range(1, 22))
    run = copy_of(straight, tmp_path / "killed")
    draw = random.Random(seed)
    places = [
        (kind, draw.randrange(1, 30 if kind == "poll" else 90))
        for kind in draw.choices(("poll", "sync"), k=8)
    ]
    settings = {"async_checkpoints": draw.choice(("on", "off")), "epochs": 1.4}
    lines = killed(base, run, settings, places)
    assert lines[0].endswith("killed")
    assert outcome(run) == outcome(straight)


class StopAt(StopSignal):
    """Requests a stop at the n-th look at the flag, as a signal would at that moment."""

    def __init__(self, n: int) -> None:
        self.left = n

    @property
    def requested(self) -> str | None:  # type: ignore[override]
        self.left -= 1
        return "SIGTERM" if self.left < 0 else None


@pytest.mark.parametrize("looks", [1, 7, 17, 20])
def test_stopped_at_any_place_it_ends_bit_equal(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path, looks: int
) -> None:
    base, straight = undisturbed
    run = copy_of(straight, tmp_path / "stopped")
    with pytest.raises(Interrupted, match="same command"):
        run_training(recipe_for(base), run, StopAt(looks))
    run_training(recipe_for(base), run)
    assert outcome(run)["steps"] == outcome(straight)["steps"]
    last = "train/checkpoints/step-12/optimizer.safetensors"
    assert outcome(run)["files"][last] == outcome(straight)["files"][last]


def test_an_optimizer_in_several_files_is_that_of_one_file(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, straight = undisturbed
    run = copy_of(straight, tmp_path / "shards")
    monkeypatch.setattr("sftprep.train.checkpoint.SHARD_BYTES", 50_000)
    with pytest.raises(Interrupted):
        run_training(recipe_for(base), run, StopAt(17))
    run_training(recipe_for(base), run)
    assert outcome(run)["steps"] == outcome(straight)["steps"]
    files = sorted((run.train_checkpoints / "step-12").glob("optimizer*.safetensors"))
    assert len(files) > 2
    merged = {name: tensor for file in files for name, tensor in load_file(file).items()}
    whole = load_file(straight.train_checkpoints / "step-12" / "optimizer.safetensors")
    assert merged.keys() == whole.keys()
    assert all(torch.equal(merged[name], whole[name]) for name in whole)


def test_finished_run_called_again_changes_nothing(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path
) -> None:
    base, straight = undisturbed
    run = RunFolder(tmp_path / "again")
    shutil.copytree(straight.root, run.root)
    result = run_training(recipe_for(base), run)
    assert (result.stopped, result.steps) == ("completed", 12)
    assert outcome(run) == outcome(straight)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model/model.safetensors", "flip"),
        ("optimizer.safetensors", "truncate"),
        ("random.safetensors", "delete"),
        ("state.json", "flip"),
        ("MANIFEST.json", "delete"),
    ],
)
def test_damaged_newest_checkpoint_falls_back_and_ends_bit_equal(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path, name: str, damage: str
) -> None:
    base, straight = undisturbed
    run = RunFolder(tmp_path / "damaged")
    shutil.copytree(straight.root, run.root)
    file = run.train_checkpoints / "step-12" / name
    content = bytearray(file.read_bytes())
    file.unlink()
    if damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    if damage == "flip":
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    run_training(recipe_for(base), run)
    found = outcome(run)
    assert (run.train_checkpoints / "corrupt-step-12-1").is_dir()
    expected = outcome(straight)
    assert found["steps"] == expected["steps"]
    last = "train/checkpoints/step-12/optimizer.safetensors"
    assert found["files"][last] == expected["files"][last]


def test_damage_is_said_aloud(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, straight = undisturbed
    run = RunFolder(tmp_path / "damaged")
    shutil.copytree(straight.root, run.root)
    (run.train_checkpoints / "step-12" / "optimizer.safetensors").write_bytes(b"")
    train(recipe_for(base), run, Progress(), StopSignal())
    spoken = capsys.readouterr().err
    assert "checkpoint step-12 is damaged, moved to corrupt-step-12-1" in spoken
    assert "continuing from step-8" in spoken


def test_all_checkpoints_damaged_is_an_error_not_a_new_start(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path
) -> None:
    base, straight = undisturbed
    run = RunFolder(tmp_path / "damaged")
    shutil.copytree(straight.root, run.root)
    for folder in run.train_checkpoints.glob("step-*"):
        (folder / "MANIFEST.json").unlink()
    with pytest.raises(TrainingError, match="every checkpoint is damaged"):
        run_training(recipe_for(base), run)


def test_another_recipe_is_refused_field_by_field(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path
) -> None:
    base, straight = undisturbed
    run = RunFolder(tmp_path / "other")
    shutil.copytree(straight.root, run.root)
    with pytest.raises(TrainingError) as raised:
        run_training(recipe_for(base, learning_rate=1e-4, seed=5), run)
    message = str(raised.value)
    assert "training.learning_rate: 0.003 -> 0.0001" in message
    assert "training.seed: 0 -> 5" in message
    assert "weight_decay" not in message


def test_settings_that_change_no_update_may_change(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path
) -> None:
    base, straight = undisturbed
    run = RunFolder(tmp_path / "free")
    shutil.copytree(straight.root, run.root)
    result = run_training(recipe_for(base, keep_checkpoints=1, export="latest"), run)
    assert result.checkpoint == "train/checkpoints/latest/model"


def test_lost_best_checkpoint_is_noticed(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path
) -> None:
    base, straight = undisturbed
    run = RunFolder(tmp_path / "lost")
    shutil.copytree(straight.root, run.root)
    shutil.rmtree(run.train_checkpoints / "step-12")
    (run.train_checkpoints / "best_validation" / "model" / "model.safetensors").write_bytes(b"")
    run_training(recipe_for(base), run)
    about = read_json(run.train_checkpoints / "best_validation" / "about.json")
    assert about["step"] == 12


def test_what_a_kill_after_the_commit_left_undone_is_done_at_the_next_start(
    undisturbed: tuple[Path, RunFolder], tmp_path: Path
) -> None:
    base, straight = undisturbed
    run = RunFolder(tmp_path / "unfinished")
    shutil.copytree(straight.root, run.root)
    folder = run.train_checkpoints
    shutil.copytree(folder / "step-8", folder / "step-4")  # the deletion never came
    older = SealedModel(folder / "step-8" / "model", seal(folder / "step-8" / "model"))
    save_model_copy(folder, "latest", older, {"step": 8})  # nor the new pointer
    run_training(recipe_for(base), run)
    assert read_json(folder / "latest" / "about.json")["step"] == 12
    assert not (folder / "step-4").exists()
    assert outcome(run)["files"] == outcome(straight)["files"]
