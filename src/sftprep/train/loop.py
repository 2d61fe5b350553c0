"""The training loop: step, validate, flag, save, stop. Resuming repeats and skips nothing."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from sftprep.data.pack import PackedBatch
from sftprep.errors import Interrupted, TrainingError
from sftprep.model.footprint import keep_freed, release
from sftprep.model.loss import TokenLoss
from sftprep.progress import Progress, Task
from sftprep.recipe.sections import Recipe
from sftprep.records import RedFlag, StepRecord, TrainResult, from_dict, to_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import write_json
from sftprep.store.run import RunFolder, monotonic
from sftprep.train.batches import prefetched
from sftprep.train.checkpoint import BEST_TRAIN, BEST_VALIDATION
from sftprep.train.logs import read_flags
from sftprep.train.redflags import History, check_flags
from sftprep.train.samples import sample_answers
from sftprep.train.saving import Saver
from sftprep.train.schedule import warmup_steps
from sftprep.train.session import Session, open_session
from sftprep.train.state import RandomStates
from sftprep.train.step import (
    NotFiniteError,
    held_out_loss,
    instruction_sensitivity,
    run_step,
)

SMOOTHING_STEPS = 20
SAVE_EVERY_SECONDS = 15 * 60.0
# Steps in a row that may be without update before training stops whatever the recipe says.
MAX_SKIPPED_RUNNING = 10


def train(recipe: Recipe, run: RunFolder, progress: Progress, stop: StopSignal) -> TrainResult:
    """Fine-tune the base model on `run.train_rows`.

    Writes steps.jsonl, flags.jsonl, TensorBoard, checkpoints and result.json. Called again after a
    kill or a stop it continues bit for bit on the same machine and software.

    Raises:
        Interrupted: a stop was requested; the state is saved.
        TrainingError: non-finite loss, failed self-check, out of memory, or a checkpoint of another
            run; the last good state is saved.
    """
    session = open_session(recipe, run, progress, stop)
    loop = Loop(session)
    try:
        loop.run()
        return loop.finish()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(_memory_message(session)) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise TrainingError(_memory_message(session)) from error
    finally:
        try:
            loop.saver.close()
        finally:
            if session.logs is not None:
                session.logs.close()
            keep_freed(False)
            release()


def _not_finite_message(error: NotFiniteError, session: Session) -> str:
    rows = ", ".join(error.rows[:5])
    more = f" and {len(error.rows) - 5} more" if len(error.rows) > 5 else ""
    return (
        f"step {error.record.step}: loss {error.record.loss_nats}, gradient norm "
        f"{error.record.grad_norm}, in rows {rows}{more}. Nothing was updated; step "
        f"{session.state.step} is saved. Look at these rows, lower training.learning_rate, set "
        "training.precision: fp32, or say in training.on_non_finite how to go on."
    )


def _memory_message(session: Session) -> str:
    section = session.section
    return (
        f"out of memory at step {session.state.step + 1} with batch_size {section.batch_size} x "
        f"max_length {section.max_length}. Halve training.batch_size and double "
        "training.gradient_accumulation_steps (same result), set training.gradient_checkpointing: "
        "on, or lower training.max_length. The same command continues from the last checkpoint "
        "only if the recipe is unchanged."
    )


class Loop:
    """Clocks, and the random state of the last step boundary."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.saver = Saver(session)
        self.boundary = RandomStates.capture()
        self.begun = self.saved_at = monotonic()
        self.earlier_seconds = session.state.seconds

    def run(self) -> None:
        """Train until the plan is done or something stops it."""
        state, plan = self.session.state, self.session.plan
        if state.base_validation is None:
            self._base_validation()
        if self.session.section.on_non_finite == "rollback" and not self.saver.has_checkpoint():
            self._save()
        if state.pending is not None:
            self._finish_step(from_dict(StepRecord, state.pending), None)
        first, last = state.step + 1, plan.total_steps
        if state.stopped is not None or first > last:
            return
        self.session.progress.line(plan.words())
        label = "training" if first == 1 else f"training from step {first}"
        with self.session.progress.task(label, last - first + 1, "steps") as task:
            for batches in prefetched(plan, first, last, self.session.world.rank):
                record = self._step(batches)
                if record is not None:
                    self._finish_step(record, task)
                if state.stopped is not None:
                    return
        self._complete_without_update()

    def _base_validation(self) -> None:
        state = self.session.state
        loss = held_out_loss(self.session)
        state.base_validation = loss.nats / loss.tokens
        self.session.progress.line(
            f"base validation loss {state.base_validation:.4f} nats per token "
            f"(perplexity {math.exp(min(state.base_validation, 700)):.2f})"
        )

    def _step(self, batches: Sequence[PackedBatch]) -> StepRecord | None:
        """The step's record; None when it gave no update and training goes on."""
        session = self.session
        session.stop.alive()
        self.boundary = RandomStates.capture()
        if session.world.size > 1 and session.world.any(session.stop.requested is not None):
            if session.stop.requested is None:
                session.stop.request("another rank")
            self._interrupted()
        try:
            record = run_step(session, batches)
        except Interrupted:
            self._interrupted()
            raise
        except NotFiniteError as error:
            self._not_finite(error)
            return None
        session.state.skipped_running = 0
        return record

    def _interrupted(self) -> None:
        self._save()
        self.saver.wait()
        self.session.world.barrier()  # launchers end the others as soon as one process ends
        self.session.stop.check(f"training; step {self.session.state.step} is saved")

    def _not_finite(self, error: NotFiniteError) -> None:
        """Nothing was updated: write the flag, then stop or go on as the recipe says.

        Raises:
            TrainingError: the recipe says stop, or too many steps in a row gave no update.
        """
        state, answer = self.session.state, self.session.section.on_non_finite
        if state.skipped_running >= MAX_SKIPPED_RUNNING:
            answer = "stop"
        if answer == "stop":
            self._save()
        history = self._history([*self.session.records, error.record])
        flags = check_flags(history, {}, {"loss_not_finite": answer})
        self._report([flag for flag in flags if flag.id == "loss_not_finite"])
        if answer == "stop":
            self.saver.wait()
            raise TrainingError(_not_finite_message(error, self.session))
        if answer == "rollback":
            self.saver.roll_back()
        if answer == "lower_rate":
            state.rate_scale /= 2
        state.step = error.record.step
        state.skipped, state.skipped_running = state.skipped + 1, state.skipped_running + 1

    def _complete_without_update(self) -> None:
        """The last planned step was skipped: validate and save what there is."""
        state = self.session.state
        self._judge(held_out_loss(self.session), state.step)
        state.stopped = "completed"
        self.boundary = RandomStates.capture()
        self._save()

    def _finish_step(self, record: StepRecord, task: Task | None) -> None:
        """Everything after the update: count, validate, log, flag, save."""
        session, state = self.session, self.session.state
        if state.pending is None:
            state.step = record.step
            state.tokens_real += record.tokens_real
            state.tokens_supervised += record.tokens_supervised
        last = record.step == session.plan.total_steps
        if last or record.step % session.section.validate_every == 0:
            record = self._validated(record)
        session.records.append(record)
        self._flags()
        self._samples(record.step)
        if state.stopped is not None and record.validation_tokens is None:
            record = session.records[-1] = self._validated(record)
        if session.logs is not None:
            session.logs.step(record)
        if last and state.stopped is None:
            state.stopped = "completed"
        due = record.step % session.section.save_every == 0 or state.stopped is not None
        if due:
            self._best_train(record.step)
        if due or monotonic() - self.saved_at > SAVE_EVERY_SECONDS:
            self.boundary = RandomStates.capture()
            self._save()
        if task is not None:
            task.advance(note=self._note(record))

    def _validated(self, record: StepRecord) -> StepRecord:
        """The record with its held-out loss; keeps the best model and counts patience."""
        session, state = self.session, self.session.state
        self.boundary = RandomStates.capture()
        try:
            loss = held_out_loss(session)
            sensitivity = instruction_sensitivity(session)
        except Interrupted:
            state.pending = asdict(record)
            self._save()
            self.saver.wait()
            raise
        state.pending = None
        self._judge(loss, record.step)
        return replace(
            record,
            validation_sum_nats=loss.nats,
            validation_tokens=loss.tokens,
            sensitivity_nats=sensitivity,
        )

    def _judge(self, loss: TokenLoss, step: int) -> None:
        """Keep the model if it is the best so far, else count patience."""
        state = self.session.state
        mean = loss.nats / loss.tokens
        if state.best_validation is None or mean < state.best_validation:
            state.best_validation, state.best_validation_step = mean, step
            state.stale_validations = 0
            self.saver.keep_model(BEST_VALIDATION, {"validation_loss_nats": mean})
        else:
            state.stale_validations += 1
        patience = self.session.section.early_stopping_patience
        if patience is not None and state.stale_validations >= patience:
            state.stopped = "early_stop"

    def _samples(self, step: int) -> None:
        """Sample answers when asked; a sharded model cannot generate while it trains."""
        session, every = self.session, self.session.section.sample_every
        if every is None or step % every or session.logs is None or session.world.sharded:
            return
        for one in sample_answers(session):
            session.logs.sample(step, one.prompt, one.answer)

    def _best_train(self, step: int) -> None:
        state = self.session.state
        mean = smoothed_loss(self.session.records)
        if mean is not None and (state.best_train is None or mean < state.best_train):
            state.best_train, state.best_train_step = mean, step
            self.saver.keep_model(BEST_TRAIN, {"train_loss_nats": mean})

    def _history(self, records: Sequence[StepRecord]) -> History:
        session = self.session
        return History(
            records,
            warmup_steps(session.section, session.plan.total_steps),
            len(session.tokenizer),
            session.state.base_validation,
        )

    def _flags(self) -> None:
        session = self.session
        overrides = session.section.red_flags
        flags = check_flags(self._history(session.records), session.raised, overrides)
        self._report(flags)
        if any(flag.action == "stop" for flag in flags):
            session.state.stopped = "red_flag"

    def _report(self, flags: Sequence[RedFlag]) -> None:
        for flag in flags:
            self.session.raised[flag.id] = flag.step
            if self.session.logs is not None:
                self.session.logs.flag(flag)
            self.session.progress.line(
                f"RED FLAG {flag.id} at step {flag.step}: {flag.evidence}. "
                f"{flag.cause} {flag.remedy}"
            )

    def _note(self, record: StepRecord) -> str:
        """The live line beside step count and ETA."""
        session = self.session
        parts = [f"loss {record.loss_nats:.4f}"]
        if session.state.best_validation is not None:
            parts.append(f"best validation {session.state.best_validation:.4f}")
        return ", ".join([*parts, *(session.logs.words(record) if session.logs else ())])

    def _save(self) -> None:
        state = self.session.state
        state.seconds = self.earlier_seconds + monotonic() - self.begun
        self.saver.save(self.boundary)
        self.saved_at = monotonic()

    def finish(self) -> TrainResult:
        """Verify the exported folder and write result.json."""
        self.saver.wait()
        session, state = self.session, self.session.state
        checkpoint = Path("train") / "checkpoints" / session.section.export / "model"
        self.saver.verify_export(session.run.root / checkpoint)
        result = TrainResult(
            stopped=state.stopped or "completed",
            steps=state.step,
            planned_steps=session.plan.total_steps,
            final_loss_nats=smoothed_loss(session.records),
            base_validation_loss_nats=state.base_validation,
            best_validation_loss_nats=state.best_validation,
            best_validation_step=state.best_validation_step,
            best_train_step=state.best_train_step,
            seconds=self.earlier_seconds + monotonic() - self.begun,
            tokens_real=state.tokens_real,
            tokens_supervised=state.tokens_supervised,
            checkpoint=checkpoint.as_posix(),
            flags=tuple(read_flags(session.run.flags)),
            started=state.started,
            settings={
                "precision": session.precision.reason,
                "weights_dtype": str(session.weights_dtype).removeprefix("torch."),
                "parameters": sum(p.numel() for p in session.model.parameters()),
                "trained_rows": len(session.plan.cache),
                "steps_per_epoch": session.plan.steps_per_epoch,
                **session.environment,
            },
        )
        if session.world.writes:
            write_json(session.run.train_result, to_dict(result))
        session.world.barrier()
        return result


def smoothed_loss(records: Sequence[StepRecord]) -> float | None:
    """Token-weighted mean loss of the last 20 steps; None before the first."""
    recent = records[-SMOOTHING_STEPS:]
    tokens = sum(r.tokens_supervised for r in recent)
    return math.fsum(r.loss_sum_nats for r in recent) / tokens if tokens else None
