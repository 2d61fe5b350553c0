"""Die at the n-th change to the run folder; a program of its own, never imported by the tool.

A change is any write-open, rename, new folder, link, deletion (Python's audit hook sees them all,
also those of libraries written in Python) and any fsync. The program loads torch once and forks one
child per attempt.

usage: python -m tests.faults.crash WORK_FOLDER --stages all [--every 1] [--offset 0] [--kill]
       python -m tests.faults.crash WORK_FOLDER --looks 1,2,3

Sweeps the stages. What a kill before change n leaves is the run folder as it stands then: one
undisturbed child copies the folder before each change (equal states once), then every EVERY-th
state is put in place and the same command must end like the undisturbed run. With `--kill` each
attempt is a child of its own that signal 9 ends at change n. Prints one JSON line per stage:
{"stage", "points", "states", "tried", "violations"}.

With `--looks` a SIGTERM goes to the process group at the n-th look at the stop flag of training,
validation and benchmarks: the child must exit 75 and the next one end like the undisturbed run.
"""

import argparse
import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tests.faults.tiny import outcome, write_inputs

from sftprep.errors import EXIT_RESUMABLE, Interrupted
from sftprep.pipeline import run
from sftprep.pipeline.stages import TABLE
from sftprep.recipe import load_recipe
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
Signature = tuple[tuple[Any, ...], ...]


class Changes:
    """Counts the changes below `root` and calls `before(n)` before each."""

    def __init__(self, root: Path, before: Callable[[int], object]) -> None:
        self.root, self.before, self.seen = str(root), before, 0
        self.turn = threading.RLock()

    def tick(self) -> None:
        """One change is about to happen; other threads wait with theirs."""
        with self.turn:
            self.seen += 1
            self.before(self.seen)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook."""
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            if writes and isinstance(path, str | os.PathLike) and self._inside(path):
                self.tick()
        elif event in CHANGES and not isinstance(arguments[0], int):
            inside = self._inside(arguments[0]) or not Path(arguments[0]).is_absolute()
            if inside:
                self.tick()

    def _inside(self, path: Any) -> bool:
        return os.fsdecode(os.fspath(path)).startswith(self.root)

    def install(self) -> None:
        """From now on every change counts. A kill loses no written page: nothing is flushed."""
        sys.addaudithook(self.hook)
        os.fsync = lambda handle: self.tick()  # type: ignore[assignment]


def die(number: int, at: int) -> None:
    """End this process by signal 9 before change `at`."""
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)


def signature(root: Path) -> Signature:
    """Which files and folders there are, and which content they have."""
    found = []
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(place, name)  # noqa: PTH118 - called at every change
            at = os.lstat(path)
            content = (at.st_ino, at.st_size, at.st_mtime_ns) if name in files else ()
            found.append((path, *content))
    return tuple(sorted(found))


class Copies:
    """Copies the run folder into numbered folders; a state that was there before is left out."""

    def __init__(self, root: Path, target: Path) -> None:
        self.root, self.target = root, target
        self.last: Signature | None = None

    def take(self, number: int) -> None:
        """Keep the state before change `number`; no run folder is a state too."""
        now = signature(self.root)
        if now == self.last:
            return
        self.last = now
        place = self.target / f"{number:05d}"
        place.mkdir()
        while self.root.exists():
            if subprocess.run(["cp", "-a", self.root, place / "run"], check=False).returncode == 0:
                return
            shutil.rmtree(place / "run")  # a compiled writer renamed a file meanwhile: once more


def in_child(work: Callable[[], object]) -> tuple[int, bool]:
    """Run in a fork: (exit status, or -1; killed by signal 9)."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            result = work()
            code = result if isinstance(result, int) else 0
        finally:
            if code == 1:
                traceback.print_exc()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return (-1 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), killed


def finish(recipe: Path, stage: str) -> None:
    """Run the pipeline through `stage`, undisturbed."""
    os.fsync = lambda handle: None  # type: ignore[assignment]
    run(load_recipe(recipe), until=stage)


def watched(recipe: Path, stage: str, before: Callable[[int], object], note: Path) -> None:
    """Run through `stage` with `before` at every change; notes their number and the modules."""
    changes = Changes(recipe.parent / "run", before)
    changes.install()
    run(load_recipe(recipe), until=stage)
    note.write_text(json.dumps([changes.seen, sorted(sys.modules)]), encoding="utf-8")


def preload(modules: Sequence[str]) -> None:
    """Load what the stage loads, so that the children need not; each has its own copy anyway."""
    for name in modules:
        if name not in sys.modules and name.partition(".")[0] in ("sftprep", "transformers"):
            with contextlib.suppress(ImportError):  # a name that only stands for another module
                importlib.import_module(name)


def restore(kept: Path, folder: Path) -> None:
    """Put a kept state in place of the run folder."""
    shutil.rmtree(folder, ignore_errors=True)
    if kept.exists():
        subprocess.run(["cp", "-a", kept, folder], check=True)


def compared(
    recipe: Path, stage: str, expected: dict[str, Any], place: dict[str, Any]
) -> list[dict[str, Any]]:
    """Give the command again: [] when it ends like the undisturbed run."""
    folder = recipe.parent / "run"
    code, _ = in_child(lambda: finish(recipe, stage))
    found = outcome(folder)
    names = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
    left = [p.name for p in folder.rglob(".tmp-*")]
    if code == 0 and not names and not left:
        return []
    return [{**place, "code": code, "differs": names[:9], "left": left}]


def sweep_stage(
    work: Path, recipe: Path, stage: str, chosen: slice, *, kill: bool
) -> dict[str, Any]:
    """All chosen crash points of one stage, beginning from the state before it."""
    folder, kept, states = recipe.parent / "run", work / f"before-{stage}", work / "states"
    if folder.exists():
        subprocess.run(["cp", "-a", folder, kept], check=True)
    states.mkdir()
    note, copies = work / "note", Copies(folder, states)
    before = (lambda n: None) if kill else copies.take
    code, _ = in_child(lambda: watched(recipe, stage, before, note))
    assert code == 0, f"{stage} fails undisturbed"
    points, modules = json.loads(note.read_text(encoding="utf-8"))
    preload(modules)
    expected = outcome(folder)
    violations: list[dict[str, Any]] = []
    found = list(range(1, points + 1)) if kill else sorted(int(p.name) for p in states.iterdir())
    for n in found[chosen]:
        at = {"point": n}
        if kill:
            restore(kept, folder)
            _, killed = in_child(lambda n=n: watched(recipe, stage, lambda k: die(k, n), note))  # type: ignore[misc]
            violations += [] if killed else [at | {"killed": False}]
        else:
            restore(states / f"{n:05d}" / "run", folder)
        violations += compared(recipe, stage, expected, at)
    restore(kept, folder)
    in_child(lambda: finish(recipe, stage))
    shutil.rmtree(kept, ignore_errors=True)
    shutil.rmtree(states)
    return {"stage": stage, "points": points, "states": len(found), "tried": len(found[chosen]),
            "violations": violations}  # fmt: skip


def signalled(recipe: Path, stage: str, look: int) -> int:
    """Run through `stage` as a process group that gets SIGTERM at a look at the stop flag."""
    os.setsid()
    run_folder, left = RunFolder(recipe.parent / "run"), [look]

    def alive(stop: StopSignal) -> None:
        if run_folder.stages().get(stage, {}).get("status") == "running":
            left[0] -= 1
            if left[0] == 0:
                os.killpg(0, signal.SIGTERM)

    StopSignal.alive = alive  # type: ignore[method-assign, assignment]
    try:
        run(load_recipe(recipe), until=stage)
    except Interrupted as stopped:
        return stopped.exit_code
    return 0


def signal_stage(work: Path, recipe: Path, stage: str, looks: Sequence[int]) -> dict[str, Any]:
    """SIGTERM at each of the looks, then the same command again."""
    folder, kept = recipe.parent / "run", work / f"before-{stage}"
    subprocess.run(["cp", "-a", folder, kept], check=True)
    in_child(lambda: finish(recipe, stage))
    expected = outcome(folder)
    violations: list[dict[str, Any]] = []
    for look in looks:
        restore(kept, folder)
        code, _ = in_child(lambda n=look: signalled(recipe, stage, n))  # type: ignore[misc]
        at = {"look": look, "exit": code}
        violations += [] if code == EXIT_RESUMABLE else [at]
        violations += compared(recipe, stage, expected, at)
    return {"stage": stage, "tried": len(looks), "violations": violations}


def main() -> None:
    """Sweep and print; exit 1 on a violation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--stages", default="all", help="names with commas")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--kill", action="store_true", help="a killed child per point")
    parser.add_argument("--looks", help="numbers with commas: signals in place of crashes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = write_inputs(given.work / "in")
    looks = [int(look) for look in given.looks.split(",")] if given.looks else []
    signals = ("train", "validate", "benchmark") if looks else ()
    chosen = signals or tuple(given.stages.split(","))
    violated = False
    for stage in TABLE:
        if stage.name not in chosen and chosen != ("all",):
            in_child(lambda name=stage.name: finish(recipe, name))  # type: ignore[misc]
            continue
        if looks:
            result = signal_stage(given.work, recipe, stage.name, looks)
        else:
            points = slice(given.offset, None, given.every)
            result = sweep_stage(given.work, recipe, stage.name, points, kill=given.kill)
        violated = violated or bool(result["violations"])
        print(json.dumps(result), flush=True)
    raise SystemExit(violated)


if __name__ == "__main__":
    main()
