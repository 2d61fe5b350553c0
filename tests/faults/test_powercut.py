"""A power cut at any moment: the last committed state is there, and nothing half-written is read.

The mutation tests leave out one fsync of the store at a time: the model must then find a violation,
so every fsync is there for a reason and this file can fail.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.faults.powercut import Operation, Tree, build, recording, states_after, tree_of

from sftprep.errors import CorruptError, StoreError
from sftprep.store import durable
from sftprep.store.durable import (
    Entry,
    append_line,
    commit_folder,
    make_folder,
    read_json,
    read_jsonl,
    remove_folder,
    sealing,
    sweep_temporary,
    verify_folder,
    write_json,
)
from sftprep.store.versions import newest_sound, set_aside

STEP = re.compile(r"step-(\d+)")


def commit(folder: Path, content: str, *, replace: bool = False) -> None:
    """A small checkpoint: two files, one of them in a folder."""
    with commit_folder(folder, replace=replace) as building:
        (building / "weights").write_text(content * 8, encoding="utf-8")
        (building / "model").mkdir()
        (building / "model" / "config").write_text(content, encoding="utf-8")


def commit_sealing(folder: Path, content: str) -> None:
    """The same checkpoint, its first file sealed while the second is still to be written."""
    known: dict[str, Entry] = {}
    with commit_folder(folder, known=known) as building, sealing(building) as finished:
        (building / "weights").write_text(content * 8, encoding="utf-8")
        known["weights"] = finished("weights")()
        (building / "model").mkdir()
        (building / "model" / "config").write_text(content, encoding="utf-8")


def newest(root: Path) -> str:
    """The content of the newest sound step after the clearing up of a new start."""
    sweep_temporary(root)
    found = newest_sound(root, STEP, lambda f: (f / "model" / "config").read_text(), lambda _: None)
    return found or "nothing"


def best(root: Path) -> str:
    """The content of `best`, or what is wrong with it."""
    sweep_temporary(root)
    try:
        verify_folder(root / "best")
    except (CorruptError, StoreError) as error:
        return f"damaged: {error}"
    return (root / "best" / "model" / "config").read_text()


def value(root: Path, name: str = "value.json") -> str:
    """The value of a JSON file; `nothing` without the file."""
    if not (root / name).exists():
        return "nothing"
    try:
        return str(read_json(root / name)["v"])
    except CorruptError as error:
        return f"damaged: {error}"


def rows(root: Path) -> str:
    """The rows of the log after one more was written by the next process."""
    append_line(root / "log.jsonl", '{"n": 9}')
    try:
        return "".join(str(row["n"]) for row in read_jsonl(root / "log.jsonl"))
    except CorruptError:
        return "damaged"


def steps(root: Path) -> str:
    """Every step folder must be sound: returns their contents, newest first."""
    sweep_temporary(root)
    for folder in root.glob("step-*"):
        verify_folder(folder)
    return "".join(f.name[-1] for f in sorted(root.glob("step-*"), reverse=True))


@dataclass(frozen=True)
class Scenario:
    """`before` runs undisturbed; a cut during `work` may leave any of `during`, later `after`."""

    before: Callable[[Path], object]
    work: Callable[[Path], object]
    read: Callable[[Path], str]
    during: frozenset[str]
    after: frozenset[str]


def _two_steps(root: Path) -> None:
    commit(root / "step-1", "1")
    commit(root / "step-2", "2")


def _append(root: Path) -> None:
    append_line(root / "log.jsonl", '{"n": 1}')
    durable.sync_file(root / "log.jsonl")
    append_line(root / "log.jsonl", '{"n": 2}')


def _log(root: Path) -> None:
    (root / "log.jsonl").write_text('{"n": 0}\n', encoding="utf-8")


def _second(committing: Callable[[Path, str], None]) -> Scenario:
    """A step is there, and the next one is committed."""
    return Scenario(
        lambda r: committing(r / "step-1", "1"),
        lambda r: committing(r / "step-2", "2"),
        newest,
        frozenset("12"),
        frozenset("2"),
    )


SCENARIOS = {
    "a second checkpoint": _second(commit),
    "a second checkpoint, sealed while it is written": _second(commit_sealing),
    "a checkpoint in a new folder": Scenario(
        lambda r: None,
        lambda r: commit(r / "train" / "checkpoints" / "step-1", "1"),
        lambda r: newest(r / "train" / "checkpoints"),
        frozenset(["nothing", "1"]),
        frozenset("1"),
    ),
    "best is replaced": Scenario(
        lambda r: commit(r / "best", "1"),
        lambda r: commit(r / "best", "2", replace=True),
        best,
        frozenset("12"),
        frozenset("2"),
    ),
    "a JSON file is replaced": Scenario(
        lambda r: write_json(r / "value.json", {"v": 1}),
        lambda r: write_json(r / "value.json", {"v": 2}),
        value,
        frozenset("12"),
        frozenset("2"),
    ),
    "a JSON file in new folders": Scenario(
        lambda r: None,
        lambda r: write_json(r / "a" / "b" / "value.json", {"v": 1}),
        lambda r: value(r, "a/b/value.json"),
        frozenset(["nothing", "1"]),
        frozenset("1"),
    ),
    "an old checkpoint is deleted": Scenario(
        _two_steps,
        lambda r: remove_folder(r / "step-1"),
        steps,
        frozenset(["21", "2"]),
        frozenset("2"),
    ),
    "a damaged checkpoint is set aside": Scenario(
        _two_steps,
        lambda r: set_aside(r / "step-2"),
        steps,
        frozenset(["21", "1"]),
        frozenset("1"),
    ),
    "a log grows": Scenario(
        _log, _append, rows, frozenset(["09", "019", "0129"]), frozenset(["019", "0129"])
    ),
}


def played(scenario: Scenario, root: Path) -> tuple[Tree, list[Operation]]:
    """The tree before, and the operations of the work."""
    root.mkdir()
    scenario.before(root)
    start = tree_of(root)
    with recording(root) as log:
        scenario.work(root)
    return start, list(log)


def violations(
    scenario: Scenario, start: Tree, log: list[Operation], scratch: Path
) -> tuple[list[str], int]:
    """What a reader finds that it must not find, and how many states were tried."""
    found, tried = [], 0
    for done, tree in states_after(start, log):
        root = build(tree, scratch / "state")
        allowed = scenario.after if done == len(log) else scenario.during
        try:
            read = scenario.read(root)
        except (CorruptError, OSError) as error:
            read = f"{type(error).__name__}: {error}"
        if read not in allowed:
            found.append(f"after {done} of {len(log)} operations: {read}")
        shutil.rmtree(root)
        tried += 1
    return found, tried


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_power_cut_at_any_moment_loses_nothing_committed(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    start, log = played(scenario, tmp_path / "disk")
    found, tried = violations(scenario, start, log, tmp_path)
    assert found == []
    assert tried > len(log)


def test_without_an_exchanging_rename_the_old_folder_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    scenario = SCENARIOS["best is replaced"]
    start, log = played(scenario, tmp_path / "disk")
    assert [o.kind for o in log].count("rename") == 3  # the manifest, old away, new in place
    assert violations(scenario, start, log, tmp_path)[0] == []


def _sync_sites() -> dict[tuple[str, str], list[str]]:
    """(function, kind of sync) and the scenarios that must notice when it is left out."""
    return {
        ("write_bytes", "sync"): ["a JSON file is replaced"],
        ("write_bytes", "sync_folder"): ["a JSON file is replaced"],
        ("seal", "sync"): ["a second checkpoint", "best is replaced"],
        ("synced", "sync"): ["a second checkpoint, sealed while it is written"],
        ("write_manifest", "sync_folder"): ["a second checkpoint", "best is replaced"],
        ("commit_folder", "sync_folder"): ["a second checkpoint", "best is replaced"],
        ("make_folder", "sync_folder"): ["a checkpoint in a new folder"],
        ("remove_folder", "sync_folder"): ["an old checkpoint is deleted"],
        ("set_aside", "sync_folder"): ["a damaged checkpoint is set aside"],
    }


@pytest.mark.parametrize(("site", "kind"), _sync_sites())
def test_every_sync_is_needed_leaving_it_out_is_noticed(
    site: str, kind: str, tmp_path: Path
) -> None:
    for number, name in enumerate(_sync_sites()[site, kind]):
        scenario = SCENARIOS[name]
        start, log = played(scenario, tmp_path / f"disk{number}")
        mutant = [o for o in log if (o.site, o.kind) != (site, kind)]
        assert len(mutant) < len(log), "this scenario never gets there"
        assert violations(scenario, start, mutant, tmp_path)[0] != []


def test_the_table_of_syncs_is_complete(tmp_path: Path) -> None:
    seen = set()
    for number, scenario in enumerate(SCENARIOS.values()):
        _, log = played(scenario, tmp_path / f"disk{number}")
        seen |= {(o.site, o.kind) for o in log if o.kind.startswith("sync")}
    assert seen - {("elsewhere", "sync"), ("elsewhere", "sync_folder")} == set(_sync_sites())


def test_a_new_folder_is_durable_with_all_its_parents(tmp_path: Path) -> None:
    with recording(tmp_path) as log:
        make_folder(tmp_path / "a" / "b")
    kept = [o for o in log if o.kind in ("mkdir", "sync_folder")]
    assert [(o.kind, o.path) for o in kept] == [
        ("mkdir", "a"),
        ("sync_folder", "."),
        ("mkdir", "a/b"),
        ("sync_folder", "a"),
    ]
