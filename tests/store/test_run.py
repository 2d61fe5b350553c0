"""The run folder's book-keeping and its lock."""

import subprocess
import sys
from pathlib import Path

import pytest

from sftprep.errors import RunLockedError, StoreError
from sftprep.store.fingerprint import fingerprint, hash_path
from sftprep.store.lock import locked
from sftprep.store.run import RunFolder


def test_a_stage_is_done_only_with_the_same_fingerprint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.is_done("data", "aa") is False
    run.mark("data", "running", "aa")
    assert run.is_done("data", "aa") is False
    run.mark("data", "done", "aa", seconds=1.5)
    assert run.is_done("data", "aa") is True
    assert run.is_done("data", "bb") is False
    assert run.stages()["data"]["seconds"] == 1.5


def test_forgetting_a_stage_forgets_the_later_ones(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for stage in ("data", "train", "validate"):
        run.mark(stage, "done", "aa")
    run.forget("train")
    assert list(run.stages()) == ["data"]


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"version": 99, "stages": {}}', encoding="utf-8")
    with pytest.raises(StoreError, match="version 99"):
        RunFolder(tmp_path).stages()


def test_a_second_process_is_refused_and_told_the_first_ones_pid(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sftprep.store.lock import locked\n"
        "try:\n    with locked(Path(sys.argv[1])): print('taken')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with locked(tmp_path):
        inside = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    after = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert inside.stdout.startswith("RunLockedError")
    assert '"pid"' in inside.stdout
    assert after.stdout.strip() == "taken"


def test_the_lock_is_not_reentrant_in_one_process(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunLockedError), locked(tmp_path):
        pass


def test_a_fingerprint_depends_on_values_not_on_key_order() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_a_folder_hash_sees_renames_and_changes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x", encoding="utf-8")
    first = hash_path(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = hash_path(tmp_path)
    (tmp_path / "b").write_text("y", encoding="utf-8")
    assert len({first, second, hash_path(tmp_path)}) == 3


def test_events_are_appended(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.event("stage_started", stage="data")
    run.event("stage_done", stage="data")
    assert len((tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()) == 2
