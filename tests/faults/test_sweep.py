"""kill -9 at numbered changes of the run folder, in every stage: the same command ends the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE_EVERY = "61"  # a small sample of about 970 crash points; all of them behind `make soak`
SAMPLE_STAGES = "models,data,plan,train,validate,benchmark"


def sweep(folder: Path, timeout: float, *options: str) -> list[dict[str, Any]]:
    """Run the sweep program; one result per stage."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.crash", folder, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    results: list[dict[str, Any]] = [
        json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")
    ]
    assert results != [], done.stderr[-3000:]
    return results


@pytest.mark.timeout(400)
def test_killed_at_a_sample_of_changes_a_stage_ends_as_if_undisturbed(tmp_path: Path) -> None:
    results = sweep(
        tmp_path, 380, "--kill", "--stages", SAMPLE_STAGES, "--every", SAMPLE_EVERY, "--offset", "4"
    )
    assert [r["stage"] for r in results if r["violations"]] == [], results
    assert [r["stage"] for r in results] == SAMPLE_STAGES.split(",")
    assert sum(r["tried"] for r in results) >= 6


@pytest.mark.timeout(200)
def test_a_stop_signal_to_the_process_group_exits_75_and_continues(tmp_path: Path) -> None:
    results = sweep(tmp_path, 190, "--looks", "2")
    assert [r["stage"] for r in results if r["violations"]] == [], results
    assert [r["stage"] for r in results] == ["train", "validate", "benchmark"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stop_signal_at_many_looks_exits_75_and_continues(tmp_path: Path) -> None:
    results = sweep(tmp_path, 590, "--looks", "1,2,3,4,5")
    assert [r["violations"] for r in results] == [[], [], []]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_at_every_change_every_stage_ends_as_if_undisturbed(tmp_path: Path) -> None:
    results = sweep(tmp_path, 7000)
    print(json.dumps([{k: r[k] for k in ("stage", "points", "states", "tried")} for r in results]))
    assert [r for r in results if r["violations"]] == []
    assert all(r["tried"] == r["states"] for r in results)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", ["plan", "train"])
def test_with_too_little_memory_a_stage_ends_with_a_message_and_continues(
    stage: str, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.faults.starve",
        str(tmp_path),
        stage,
        "4,16,48,96,160,256",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=590, check=False
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["wrong"] for row in rows] == [[]] * 6, done.stderr[-3000:]
