"""A plan corrected by a few real steps on this machine: steps, tokens, time and memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sftprep.model.estimate import TimeEstimate, Volume
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe, TrainingSection
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder

if TYPE_CHECKING:
    from sftprep.model.plan import Plan

# Rest of the uncertainty after calibration: measured on runs of minutes, docs/benchmarks.md.
SPREAD_MEASURED = (0.85, 1.2)
# The measurement takes about this share of the run, within these limits.
SHARE, LEAST_SECONDS, MOST_SECONDS = 0.03, 3.0, 60.0
# Loading and three steps must not take longer than this to be worth a look.
LONGEST_LOOK_SECONDS = 900.0
# A shorter run is over before a look at it pays.
SHORTEST_RUN_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a few real steps showed. Seconds and bytes of one process on one device.

    `steps` and `tokens` were timed after a first step that was not. `keep_seconds`: writing a
    model; `save_seconds`: the training state beside it; `finish_seconds`: reading the export again.
    `swapped_tokens` are read at every validation beside the held-out ones. `resident_bytes` was
    held before anything was loaded, `peak_bytes` at most.
    """

    steps: int
    tokens: int
    seconds: float
    validation_tokens: int
    validation_seconds: float
    save_seconds: float
    start_seconds: float
    total_steps: int
    tokens_per_epoch: int
    steps_per_epoch: int
    held_out_tokens: int
    resident_bytes: int | None
    peak_bytes: int | None
    keep_seconds: float = 0.0
    finish_seconds: float = 0.0
    swapped_tokens: int = 0

    @property
    def seconds_per_token(self) -> float:
        """Training seconds per real token."""
        return self.seconds / self.tokens

    @property
    def validation_rate(self) -> float:
        """Seconds per held-out token."""
        return self.validation_seconds / max(self.validation_tokens, 1)


Measure = Callable[[Recipe, RunFolder, Progress, StopSignal, float], Measured]


def seconds_to_spend(expected: float) -> float:
    """How long to measure for a run that is expected to take this long."""
    return min(MOST_SECONDS, max(LEAST_SECONDS, SHARE * expected))


def why_not_measured(plan: "Plan", detected: bool, ready: bool, processes: int = 1) -> str | None:
    """The reason no real steps are taken, or None when they are."""
    if not detected:
        return f"planned for {plan.hardware_label}, not for this machine"
    if int(plan.hardware["count"]) > 1 or processes > 1:
        return "more than one device or process takes part"
    if not ready:
        return "the data is not prepared yet"
    if not plan.fits:
        return "it would not fit"
    if plan.time is not None and plan.time.expected < SHORTEST_RUN_SECONDS:
        return f"the run takes less than {SHORTEST_RUN_SECONDS:.0f} seconds"
    if plan.time is not None and plan.volume is not None:
        step = plan.volume.tokens_per_step / plan.time.tokens_per_second
        if 3 * step > LONGEST_LOOK_SECONDS:
            return f"three steps would take about {3 * step / 60:.0f} minutes"
    return None


def calibrated(plan: "Plan", training: TrainingSection, measured: Measured) -> "Plan":
    """The plan with measured speed, exact steps and tokens; the measured peak stands beside it.

    The time is that of training from its first pass over the held-out rows to its checked export,
    as the record of training counts it: loading before it is not part of it. Every validation is
    taken to improve the model, so that it is written.
    """
    per_step = measured.tokens_per_epoch / measured.steps_per_epoch
    tokens = round(per_step * measured.total_steps)
    seconds = tokens * measured.seconds_per_token
    passes = rounds(training, measured.total_steps)
    read = passes * measured.held_out_tokens + (passes - 1) * measured.swapped_tokens
    validation = read * measured.validation_rate
    saving = saves(training, measured.total_steps) * measured.save_seconds
    keeping = (passes - 1) * measured.keep_seconds
    expected = seconds + validation + saving + keeping + measured.finish_seconds
    low, high = SPREAD_MEASURED
    rows = training.batch_size * training.gradient_accumulation_steps
    volume = Volume(
        measured.total_steps,
        rows,
        rows * training.max_length,
        tokens,
        measured.total_steps / measured.steps_per_epoch,
    )
    time = TimeEstimate(
        expected, expected * low, expected * high, validation, 1 / measured.seconds_per_token
    )
    hours = expected * int(plan.hardware["count"]) / 3600
    price = plan.hardware["dollars_per_hour"]
    return replace(
        plan,
        memory=_memory(plan, measured),
        volume=volume,
        time=time,
        tokens_per_epoch=measured.tokens_per_epoch,
        tokens_measured=True,
        flops=_flops(plan, tokens),
        device_hours=hours,
        dollars=None if price is None else hours * price,
        measured=measured,
        measured_why_not=None,
    )


def _memory(plan: "Plan", measured: Measured) -> dict[str, int | bool]:
    """On a CPU the peak of the whole process that was seen; what the formula said stays beside it.

    A GPU's peak leaves out the driver's context, so there the formula stays.
    """
    memory = dict(plan.memory)
    if plan.hardware["kind"] == "cpu" and measured.peak_bytes is not None:
        memory["formula"], memory["total"] = memory["total"], measured.peak_bytes
    return memory


def _flops(plan: "Plan", tokens: int) -> float | None:
    if plan.flops is None or plan.volume is None:
        return None
    return plan.flops * tokens / plan.volume.tokens


def rounds(training: TrainingSection, steps: int) -> int:
    """Passes over the held-out rows: the base model, every `validate_every`, and the last step."""
    regular, rest = divmod(steps, training.validate_every)
    return 1 + regular + (rest > 0)


def saves(training: TrainingSection, steps: int) -> int:
    """Checkpoints written: every `save_every` steps and at the end."""
    return steps // training.save_every + (steps % training.save_every > 0)
