"""Bad input: exit 2, one clear message that says where and what to change, no traceback."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.pipeline.conftest import Outcome, sftprep, write_small_recipe

from sftprep.starter import MODEL_DIR

RECIPE = "model:\n  base: {model}\ndata:\n  sources: [{data}]\noutput:\n  run_dir: {run}\n"


def recipe_for(folder: Path, rows: list[object], model: object = MODEL_DIR) -> Path:
    """A minimal recipe over the given rows."""
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = folder / "recipe.yaml"
    text = RECIPE.format(model=model, data=data, run=folder / "run")
    path.write_text(text, encoding="utf-8")
    return path


def assert_refused(outcome: Outcome, *parts: str) -> None:
    """Assert exit 2, no traceback, and every part named in one message."""
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    last = outcome.err[outcome.err.rindex("sftprep: ") :]
    assert [part for part in parts if part not in last] == []


def test_a_misspelt_key_names_file_line_and_nearest_key(tmp_path: Path) -> None:
    path = recipe_for(tmp_path, [{"instruction": "a", "response": "b"}])
    with path.open("a", encoding="utf-8") as handle:
        handle.write("training:\n  learnin_rate: 2e-5\n")
    assert_refused(
        sftprep("run", path), "recipe.yaml:8", "training.learnin_rate", "'learning_rate'"
    )


def test_a_missing_recipe_says_so(tmp_path: Path) -> None:
    assert_refused(sftprep("run", tmp_path / "none.yaml"), "none.yaml", "no such file")


def test_missing_data_names_the_path(tmp_path: Path) -> None:
    path = recipe_for(tmp_path, [])
    (tmp_path / "rows.jsonl").unlink()
    assert_refused(sftprep("run", path), "rows.jsonl", "data.sources")


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = recipe_for(tmp_path, [{"instruction": "a", "response": "b"}], tmp_path / "model")
    assert_refused(sftprep("run", path), str(tmp_path / "model"), "config.json")


def test_rows_without_a_response_are_refused_by_place(tmp_path: Path) -> None:
    path = recipe_for(tmp_path, [{"instruction": "a"}, {"instruction": "b"}])
    assert_refused(sftprep("run", path), "rows.jsonl:1", "response")


def test_an_unknown_stage_lists_the_stages(tmp_path: Path) -> None:
    path = recipe_for(tmp_path, [{"instruction": "a", "response": "b"}])
    assert_refused(sftprep("run", path, "--until", "trian"), "trian", "train")


def test_an_unknown_command_exits_2() -> None:
    assert sftprep("trian").code == 2


def test_a_write_that_fails_for_space_is_one_message_and_keeps_what_was_done(
    tmp_path: Path,
) -> None:
    recipe = write_small_recipe(tmp_path)
    assert sftprep("run", recipe, "--until", "data").code == 0
    report = (tmp_path / "run" / "data" / "report.json").read_bytes()
    limited = subprocess.run(
        [sys.executable, "-m", "sftprep", "run", str(recipe)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
        timeout=250,
        check=False,
    )
    assert_refused(Outcome(limited.returncode, limited.stdout, limited.stderr), "no space left")
    assert (tmp_path / "run" / "data" / "report.json").read_bytes() == report
    assert [p.name for p in (tmp_path / "run").rglob(".tmp-*")] == []


@pytest.mark.skipif(
    not hasattr(os, "unshare") and sys.platform != "linux", reason="needs Linux namespaces"
)
def test_a_full_disk_is_found_before_any_work(tmp_path: Path) -> None:
    recipe = write_small_recipe(tmp_path / "in")
    out = tmp_path / "small-disk"
    out.mkdir()
    command = (
        f"mount -t tmpfs -o size=1m none {out} && "
        f"exec {sys.executable} -m sftprep run {recipe} --set output.run_dir={out}/run"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()[:100]}")
    assert_refused(Outcome(done.returncode, done.stdout, done.stderr), "free on the disk")


def test_help_starts_without_tensors_and_fast() -> None:
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from sftprep.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
