"""Run the stages in order: skip what is done, continue what was interrupted, lock the folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sftprep
from sftprep.errors import (
    Interrupted,
    RecipeError,
    SftprepError,
    StoreError,
    library_failures,
)
from sftprep.pipeline.environment import environment
from sftprep.pipeline.stages import BY_NAME, TABLE, Stage, stage_fingerprint
from sftprep.pipeline.turns import END, Turns, follow
from sftprep.pipeline.working import at_work
from sftprep.progress import Progress
from sftprep.recipe.load import ResolvedRecipe
from sftprep.recipe.write import recipe_text
from sftprep.records import GateResult, from_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import full_disk_errors, read_json, sweep_temporary, write_text
from sftprep.store.ranks import is_first
from sftprep.store.run import RunFolder, monotonic


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a call of `run` did. `gate` is None when the gate was not reached."""

    folder: Path
    done: tuple[str, ...]
    skipped: tuple[str, ...]
    gate: GateResult | None


def run(
    resolved: ResolvedRecipe,
    *,
    first: str | None = None,
    until: str | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run every stage that is not finished with exactly these inputs.

    Args:
        resolved: a recipe from `load_recipe`.
        first: redo this stage and all later ones; default: whatever changed.
        until: stop after this stage.
        progress: where to report; default: quiet.
    Raises:
        Interrupted: a signal asked to stop; the same call continues.
        SftprepError: bad input; finished stages are kept.
    """
    names = [stage.name for stage in TABLE]
    for name in (first, until):
        if name is not None and name not in names:
            raise RecipeError(f"unknown stage '{name}'. Stages: {', '.join(names)}.")
    last = names.index(until) if until else len(names) - 1
    if not is_first():
        return RunResult(follow(resolved), (), (), None)
    with _working(resolved, progress) as (folder, shown, stop):
        if first is not None:
            folder.forget(first)
        done: list[str] = []
        skipped: list[str] = []
        turns = Turns()
        for stage in TABLE[: last + 1]:
            ran = _run_one(stage, resolved, folder, shown, stop, turns)
            (done if ran else skipped).append(stage.name)
        turns.call(END)
    gate = read_gate(folder) if "gate" in (*done, *skipped) else None
    return RunResult(folder.root, tuple(done), tuple(skipped), gate)


def run_stage(
    name: str, resolved: ResolvedRecipe, *, progress: Progress | None = None
) -> RunResult:
    """Redo one stage on a run folder that holds what it reads.

    Raises:
        StoreError: a stage it depends on has not finished.
    """
    stage = BY_NAME[name]
    if not is_first():
        return RunResult(follow(resolved), (), (), None)
    with _working(resolved, progress) as (folder, shown, stop):
        states = folder.stages()
        for before in stage.after:
            if states.get(before, {}).get("status") != "done":
                raise StoreError(
                    f"{folder.root}: stage '{before}' has not finished. "
                    f"Run `sftprep {before} {resolved.file}` (or `sftprep run`) first."
                )
        turns = Turns()
        _run_one(stage, resolved, folder, shown, stop, turns, force=True)
        turns.call(END)
    return RunResult(folder.root, (name,), (), read_gate(folder) if name == "gate" else None)


def read_gate(folder: RunFolder) -> GateResult | None:
    """The recorded verdict, or None when the gate has not judged this state."""
    if folder.stages().get("gate", {}).get("status") != "done":
        return None
    return from_dict(GateResult, read_json(folder.gate))


@contextmanager
def _working(
    resolved: ResolvedRecipe, progress: Progress | None
) -> Iterator[tuple[RunFolder, Progress, StopSignal]]:
    folder = RunFolder(Path(resolved.recipe.output.run_dir).absolute())
    with at_work(folder) as stop:
        write_text(folder.recipe, recipe_text(resolved))
        yield folder, progress or Progress(quiet=True), stop


def _run_one(
    stage: Stage,
    resolved: ResolvedRecipe,
    folder: RunFolder,
    progress: Progress,
    stop: StopSignal,
    turns: Turns,
    *,
    force: bool = False,
) -> bool:
    """Run a stage unless it is finished; true when it ran."""
    states = folder.stages()
    upstream = {name: str(states.get(name, {}).get("fingerprint")) for name in stage.after}
    print_of = stage_fingerprint(stage, resolved.recipe, upstream, sftprep.__version__)
    if not force and folder.is_done(stage.name, print_of) and stage.output(folder).exists():
        progress.line(f"= {stage.name}: done before, unchanged")
        return False
    stop.check(f"starting '{stage.name}'")
    _set_aside(stage, folder, states.get(stage.name, {}).get("fingerprint"), print_of)
    progress.line(f"> {stage.name}: {stage.title}")
    turns.call(stage.name)
    started = monotonic()
    folder.mark(stage.name, "running", print_of, environment=environment())
    folder.event("stage_started", stage=stage.name, fingerprint=print_of)
    try:
        with full_disk_errors(folder.root), library_failures(f"at stage '{stage.name}'"):
            stage.work(resolved.recipe, folder, progress, stop)
    except BaseException as error:
        sweep_temporary(folder.root)
        _record_failure(stage, folder, print_of, error)
        raise
    seconds = round(monotonic() - started, 3)
    folder.mark(stage.name, "done", print_of, seconds=seconds)
    folder.event("stage_done", stage=stage.name, seconds=seconds)
    progress.line(f"  {stage.name}: {seconds:.1f} s")
    return True


def _record_failure(stage: Stage, folder: RunFolder, print_of: str, error: BaseException) -> None:
    status: Any = "stopped" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
    try:
        folder.mark(stage.name, status, print_of, error=recorded(error))
        folder.event(f"stage_{status}", stage=stage.name, error=type(error).__name__)
    except SftprepError:
        return  # a full disk must not hide the first error


def recorded(error: BaseException) -> str:
    """An error as it stands in run.json: at most 2,000 characters, without secrets."""
    from sftprep.report.redact import redact_text

    return redact_text(f"{type(error).__name__}: {error}")[:2000]


def _set_aside(stage: Stage, folder: RunFolder, before: str | None, now: str) -> None:
    """Training state of another recipe is moved away, never mixed in and never deleted at once."""
    if stage.name != "train" or before in (None, now) or not folder.train.exists():
        return
    aside = folder.root / "superseded" / f"train-{before}"
    aside.parent.mkdir(exist_ok=True)
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"train-{before}-{number}")
    folder.train.rename(aside)
