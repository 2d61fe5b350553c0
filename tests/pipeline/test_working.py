"""What must be so before a run folder is written to: no links inside, no files of somebody else."""

import os
import re
from pathlib import Path

import pytest

from sftprep.errors import StoreError
from sftprep.pipeline.working import at_work
from sftprep.recipe import load_recipe
from sftprep.store.run import RunFolder

RECIPE = (
    "model: {{base: m}}\ndata: {{sources: [{{path: rows.jsonl}}]}}\noutput: {{run_dir: {run}}}\n"
)


def run_folder(root: Path) -> RunFolder:
    """A run folder that has only its state."""
    root.mkdir()
    folder = RunFolder(root)
    folder.keep({})
    return folder


@pytest.mark.parametrize("name", ["data", "train/checkpoints", "checkpoints/sft_baseline"])
def test_a_link_inside_a_run_folder_is_refused(name: str, tmp_path: Path) -> None:
    elsewhere, run = tmp_path / "elsewhere", run_folder(tmp_path / "run")
    elsewhere.mkdir()
    (run.root / name).parent.mkdir(exist_ok=True)
    (run.root / name).symlink_to(elsewhere)
    with pytest.raises(StoreError, match=f"{name}: a link inside a run folder"), at_work(run):
        raise AssertionError("work began")
    assert list(elsewhere.iterdir()) == []


def test_the_run_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    run_folder(tmp_path / "run")
    (tmp_path / "name").symlink_to(tmp_path / "run")
    with at_work(RunFolder(tmp_path / "name")) as stop:
        assert stop.requested is None


@pytest.mark.parametrize("name", [".lock", "run.json", "events.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_or_folder_in_place_of_a_file_is_named(name: str, kind: str, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    (run.root / name).unlink(missing_ok=True)
    os.mkfifo(run.root / name) if kind == "pipe" else (run.root / name).mkdir()
    with pytest.raises(StoreError, match=re.escape(f"{run.root / name}: ")), at_work(run):
        run.event("begun")


def test_scores_are_not_written_into_a_folder_with_somebodys_files(tmp_path: Path) -> None:
    from sftprep.pipeline.rescore import rescore

    run, out = run_folder(tmp_path / "run"), tmp_path / "out"
    for path in (run.validation_rows, run.baseline / "config.json", tmp_path / "new/config.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(run=run.root), encoding="utf-8")
    out.mkdir()
    (out / "recipe.yaml").write_text("somebody's", encoding="utf-8")
    with pytest.raises(StoreError, match=r"holds other files \(recipe.yaml\)"):
        rescore(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "new", out)
    assert [p.read_text() for p in out.iterdir()] == ["somebody's"]
