"""A few real steps before training: the same code on the same rows, thrown away afterwards."""

import gc
import shutil
from dataclasses import dataclass
from itertools import pairwise

import torch

from sftprep.model.calibrate import Measured
from sftprep.model.footprint import keep_freed, peak_bytes, release, reset_peak, resident_bytes
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe
from sftprep.stop import StopSignal
from sftprep.store.durable import TEMPORARY
from sftprep.store.run import RunFolder, monotonic
from sftprep.train.batches import prefetched
from sftprep.train.checkpoint import BEST_VALIDATION
from sftprep.train.saving import Saver
from sftprep.train.session import Session, open_session
from sftprep.train.state import RandomStates
from sftprep.train.step import held_out_loss, run_step

LEAST_STEPS, MOST_STEPS = 3, 30
VALIDATION_BATCHES = 4


def probe(
    recipe: Recipe, run: RunFolder, progress: Progress, stop: StopSignal, seconds: float
) -> Measured:
    """Open a training session on the run's prepared rows, take some steps, validate, save.

    Nothing of it is kept: it works in a folder of its own whose `data` is the run's, so that only
    the token cache, which training needs anyway, stays.

    Args:
        seconds: about how long to take steps; at least LEAST_STEPS after a first one.
    Raises:
        Interrupted: a stop was requested.
        DataError, ModelError, TrainingError: training would fail for the same reason.
    """
    folder = RunFolder((run.root / f"{TEMPORARY}probe").absolute())
    shutil.rmtree(folder.root, ignore_errors=True)
    folder.root.mkdir(parents=True)
    folder.data.symlink_to(run.data.absolute(), target_is_directory=True)
    try:
        return _measure(recipe, folder, progress, stop, seconds)
    finally:
        shutil.rmtree(folder.root, ignore_errors=True)
        gc.collect()
        keep_freed(False)
        release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _measure(
    recipe: Recipe, folder: RunFolder, progress: Progress, stop: StopSignal, seconds: float
) -> Measured:
    before = resident_bytes()
    reset_peak()
    started = monotonic()
    training = recipe.training.model_copy(update={"loggers": ()})  # no tracker hears of this
    recipe = recipe.model_copy(update={"training": training})
    session = open_session(recipe, folder, Progress(quiet=True), stop)
    start_seconds = monotonic() - started
    try:
        if session.world.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(session.world.device)
        steps, tokens, took = _steps(session, progress, seconds)
        checked, validation_seconds = _validation(session)
        saving = _saving(session)
    finally:
        if session.logs is not None:
            session.logs.close()
    plan = session.plan
    return Measured(
        steps=steps,
        tokens=tokens,
        seconds=took,
        validation_tokens=checked,
        validation_seconds=validation_seconds,
        save_seconds=saving.step,
        keep_seconds=saving.model,
        finish_seconds=saving.verify,
        start_seconds=start_seconds,
        total_steps=plan.total_steps,
        tokens_per_epoch=int(plan.cache.lengths.sum()),
        steps_per_epoch=plan.steps_per_epoch,
        held_out_tokens=sum(batch.tokens for batch in session.validation),
        swapped_tokens=_swapped_tokens(session),
        resident_bytes=before,
        peak_bytes=_peak(session),
    )


def _steps(session: Session, progress: Progress, seconds: float) -> tuple[int, int, float]:
    """Steps timed after the first, their real tokens, and how long they took."""
    last = min(MOST_STEPS, session.plan.total_steps)
    count = tokens = 0
    took = 0.0
    with progress.task("measuring a few steps", last, "steps") as task:
        begin = monotonic()
        for batches in prefetched(session.plan, 1, last, session.world.rank):
            record = run_step(session, batches)
            _wait(session)
            session.state.step = record.step
            task.advance()
            if record.step == 1 and last > 1:
                begin = monotonic()
                continue
            count, tokens = count + 1, tokens + record.tokens_real
            took = monotonic() - begin
            if count >= LEAST_STEPS and took >= seconds:
                break
    return count, tokens, took


def _wait(session: Session) -> None:
    if session.world.device.startswith("cuda"):
        torch.cuda.synchronize(session.world.device)


def _validation(session: Session) -> tuple[int, float]:
    """Tokens of a few held-out batches of every length, and the seconds of one pass over them."""
    every = session.validation
    session.validation = every[:: max(1, len(every) // VALIDATION_BATCHES)]
    try:
        begin = monotonic()
        held_out_loss(session)
        return sum(batch.tokens for batch in session.validation), monotonic() - begin
    finally:
        session.validation = every


def _swapped_tokens(session: Session) -> int:
    """Tokens that each validation reads to see whether instructions matter."""
    rows = session.swapped
    return sum(batch.tokens for batch in (*rows.own, *rows.swapped)) if rows else 0


@dataclass(frozen=True, slots=True)
class _Saving:
    """Seconds of writing a model, of the training state beside it, and of checking an export."""

    model: float
    step: float
    verify: float


def _saving(session: Session) -> _Saving:
    """Write and check one complete checkpoint, waiting also where it is written beside training."""
    saver = Saver(session)
    marks = [monotonic()]
    try:
        saver.keep_model(BEST_VALIDATION, {})
        saver.wait()
        marks.append(monotonic())
        saver.save(RandomStates.capture())
        saver.wait()
        marks.append(monotonic())
        saver.verify_export(session.run.train_checkpoints / BEST_VALIDATION / "model")
        marks.append(monotonic())
    finally:
        saver.close()
    model, step, verify = (after - before for before, after in pairwise(marks))
    return _Saving(model, step, verify)


def _peak(session: Session) -> int | None:
    device = session.world.device
    return int(torch.cuda.max_memory_allocated(device)) if "cuda" in device else peak_bytes()
