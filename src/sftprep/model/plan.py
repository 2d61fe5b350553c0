"""The plan: will it fit, how long, what does it cost; written before anything is spent."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sftprep.errors import ModelError
from sftprep.model.calibrate import (
    Measure,
    Measured,
    calibrated,
    seconds_to_spend,
    why_not_measured,
)
from sftprep.model.catalogue import facts_for
from sftprep.model.describe import ModelFacts
from sftprep.model.estimate import (
    TimeEstimate,
    Volume,
    disk_bytes,
    money,
    training_flops,
    training_time,
    training_volume,
)
from sftprep.model.hardware import GIB, Hardware, parse_hardware
from sftprep.model.later import (
    FORWARD_SHARE,
    Count,
    LaterStage,
    Workload,
    later_stages,
    rates,
)
from sftprep.model.memory import MemoryNeed, fits
from sftprep.model.plan_words import plan_lines, readable_seconds
from sftprep.model.sample import RowSample, TokenFit, sample_rows, token_fit
from sftprep.model.settings import Alternative, Choice, alternatives, job_for
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe
from sftprep.records import TrainResult, from_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import free_bytes, iterate_jsonl, read_json, write_json
from sftprep.store.run import RunFolder

PLAN_VERSION = 1
# Days that the stage document names for a whole stage, by model size in parameters.
STAGE_DAYS: tuple[tuple[str, float, float, float, float], ...] = (
    ("small (7B)", 1e9, 1e10, 1, 2),
    ("medium (13-30B)", 1e10, 4e10, 2, 4),
    ("large (70B+)", 4e10, math.inf, 3, 7),
)
MANY_EPOCHS = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will need, per device where memory is meant. Seconds, bytes, dollars.

    `settings`: what `auto` resolves to, by recipe key. `alternatives`: what would fit, nearest
    first, when `fits` is false. `measured`: the real steps that time and volume rest on, else
    `measured_why_not`. `later`: the stages after training; `total_seconds`, `device_hours` and
    `dollars`: training and these. `actual` is filled in after training.
    """

    model: str
    parameters: int
    parameters_from: str
    hardware: Mapping[str, Any]
    hardware_label: str
    memory: Mapping[str, int | bool]
    memory_available: int
    fits: bool
    settings: Mapping[str, str]
    choices: tuple[Choice, ...]
    volume: Volume | None
    tokens_per_epoch: int | None
    tokens_measured: bool
    flops: float | None
    time: TimeEstimate | None
    device_hours: float | None
    dollars: float | None
    price_source: str | None
    checkpoint_bytes: int
    disk_bytes: int
    disk_free: int | None
    stage_document: str
    alternatives: tuple[Alternative, ...]
    warnings: tuple[str, ...]
    trained_parameters: int = 0
    later: tuple[LaterStage, ...] = ()
    total_seconds: float | None = None
    measured: Measured | None = None
    measured_why_not: str | None = None
    actual: Mapping[str, Any] | None = None
    version: int = field(default=PLAN_VERSION)

    def lines(self) -> list[str]:
        """The plan in words, one fact per line."""
        return plan_lines(self)


def make_plan(recipe: Recipe, run: RunFolder | None, hardware: Hardware | None = None) -> Plan:
    """Plan a recipe; `run` adds the prepared data and the free disk space.

    Raises:
        ModelError: the model's layout is unknown, so nothing can be computed.
        RecipeError: `model.hardware` is not understood.
    """
    hardware = hardware or launched(parse_hardware(recipe.model.hardware), os.environ)
    facts = facts_for(recipe.model.base, recipe.model.revision)
    if facts.shape is None or facts.parameters is None:
        raise ModelError(
            f"{facts.ref}: its layout ({facts.model_type}) is unknown, so memory and time cannot "
            "be planned. Use a model of a known family, e.g. one that `sftprep models` lists."
        )
    rows = sample_rows(recipe.data, run)
    return _plan(recipe, facts, hardware, rows, token_fit(rows.pairs, facts.folder), run)


def launched(hardware: Hardware, environment: Mapping[str, str]) -> Hardware:
    """The detected GPUs that this launch really uses: one, or torchrun's WORLD_SIZE."""
    if not hardware.detected or hardware.kind == "cpu":
        return hardware
    return replace(hardware, count=processes(environment))


def processes(environment: Mapping[str, str]) -> int:
    """torchrun's WORLD_SIZE; 1 without it."""
    world = environment.get("WORLD_SIZE", "1")
    return max(1, int(world)) if world.isdigit() else 1


def _plan(
    recipe: Recipe,
    facts: ModelFacts,
    hardware: Hardware,
    rows: RowSample,
    fit: TokenFit | None,
    run: RunFolder | None,
) -> Plan:
    assert facts.shape is not None and facts.parameters is not None
    training = recipe.training
    job, need, choices = job_for(facts.shape, facts.parameters, training, hardware, fit)
    epoch_tokens = (
        round(fit.mean_length * rows.rows * (1 - _held_out(recipe, rows))) if fit else None
    )
    volume = training_volume(training, hardware.count, epoch_tokens)
    time = None
    if volume:
        held = min(recipe.validation.max_rows, rows.rows * recipe.data.validation_fraction)
        checked = round(held * fit.mean_length) if fit else 0
        time = training_time(job, hardware, volume, checked, training.validate_every)
    one, all_kept = disk_bytes(recipe, facts.shape, facts.parameters, facts.dtype, hardware.kind)
    free = free_bytes(run.root) if run else None
    fitting = fits(need, hardware)
    others = () if fitting else alternatives(job, training, hardware, recipe.model.intended_use)
    return Plan(
        model=facts.ref,
        parameters=facts.parameters,
        parameters_from=facts.parameters_from,
        hardware=asdict(hardware),
        hardware_label=hardware.label,
        memory=need.as_dict(),
        memory_available=hardware.memory_bytes,
        fits=fitting,
        settings={choice.key.removeprefix("training."): choice.value for choice in choices},
        choices=choices,
        volume=volume,
        tokens_per_epoch=epoch_tokens,
        tokens_measured=bool(fit and fit.measured and rows.prepared),
        flops=training_flops(facts.shape.active_parameters, volume.tokens) if volume else None,
        time=time,
        device_hours=time.expected * hardware.count / 3600 if time else None,
        dollars=money(hardware, time.expected) if time else None,
        price_source=hardware.price_source,
        checkpoint_bytes=one,
        disk_bytes=all_kept,
        disk_free=free,
        stage_document=compare_with_stage(facts.parameters, time),
        alternatives=others,
        warnings=_warnings(recipe, facts, rows, fit, volume, need, all_kept, free),
        trained_parameters=job.trained,
    )


def _held_out(recipe: Recipe, rows: RowSample) -> float:
    return 0.0 if rows.prepared else recipe.data.validation_fraction


def compare_with_stage(parameters: int, time: TimeEstimate | None) -> str:
    """The expected duration beside the stage document's for this size."""
    if time is None:
        return "duration unknown: the amount of data is not known yet"
    took = readable_seconds(time.expected)
    for name, above, upto, low, high in STAGE_DAYS:
        if above <= parameters < upto:
            days = time.expected / 86400
            against = "within" if low <= days <= high else "below" if days < low else "above"
            return (
                f"{took} of training, {against} the usual {low:g}-{high:g} days for {name} models"
            )
    return f"{took} of training; the usual ranges begin at 1B parameters"


def _warnings(
    recipe: Recipe,
    facts: ModelFacts,
    rows: RowSample,
    fit: TokenFit | None,
    volume: Volume | None,
    need: MemoryNeed,
    disk: int,
    free: int | None,
) -> tuple[str, ...]:
    training = recipe.training
    found = [rows.problem] if rows.problem else []
    if facts.context is not None and training.max_length > facts.context:
        found.append(
            f"training.max_length {training.max_length} is more than the model's context of "
            f"{facts.context}: set it to at most {facts.context}"
        )
    if fit and fit.lengths[1] > training.max_length:
        found.append(
            f"a tenth of the rows is longer than training.max_length {training.max_length} "
            f"(90 % quantile: {fit.lengths[1]} tokens) and will be rejected"
        )
    if volume and training.warmup_steps >= volume.steps:
        found.append(
            f"warmup_steps {training.warmup_steps} is not less than the {volume.steps} steps of "
            "the run: the learning rate never reaches its peak"
        )
    if volume and volume.steps < training.validate_every:
        found.append(
            f"validate_every {training.validate_every} is more than the {volume.steps} steps of "
            "the run: it is validated only at the end"
        )
    if volume and volume.epochs and volume.epochs > MANY_EPOCHS:
        found.append(
            f"{volume.epochs:.1f} passes over the data: overfitting is likely from about "
            f"{MANY_EPOCHS}; early stopping watches for it"
        )
    if free is not None and disk > free:
        found.append(
            f"the run keeps about {disk / GIB:.1f} GiB, the disk has {free / GIB:.1f} GiB free: "
            "lower training.keep_checkpoints or change output.run_dir"
        )
    return tuple(found)


def plan_stage(
    recipe: Recipe,
    run: RunFolder,
    progress: Progress,
    stop: StopSignal,
    measure: Measure | None = None,
    count: Count | None = None,
) -> Plan:
    """Write plan.json and say what it holds. What does not fit is said, not refused.

    `measure` takes a few real training steps, where that is possible; the plan then rests on them.
    `count` gives the work of the benchmarks.
    """
    stop.check("planning")
    hardware = launched(parse_hardware(recipe.model.hardware), os.environ)
    plan = make_plan(recipe, run, hardware)
    if measure is not None:
        why_not = why_not_measured(
            plan, hardware.detected, run.train_rows.is_file(), processes(os.environ)
        )
        if why_not is None:
            seconds = seconds_to_spend(plan.time.expected if plan.time else 0.0)
            measured = measure(recipe, run, progress, stop, seconds)
            plan = calibrated(plan, recipe.training, measured)
            plan = replace(plan, stage_document=compare_with_stage(plan.parameters, plan.time))
        else:
            plan = replace(plan, measured_why_not=why_not)
    if count is not None:
        plan = with_later(plan, recipe, hardware, count(recipe), sample_rows(recipe.data, run))
    write_json(run.plan, asdict(plan))
    for line in plan_lines(plan):
        progress.line(f"  {line}")
    return plan


def with_later(
    plan: Plan, recipe: Recipe, hardware: Hardware, work: Sequence[Workload], rows: RowSample
) -> Plan:
    """The plan with the time of validation and benchmarks, and the cost of it all."""
    if plan.time is None:
        return plan
    facts = facts_for(recipe.model.base, recipe.model.revision)
    fit = token_fit(rows.pairs, facts.folder)
    read = FORWARD_SHARE / plan.time.tokens_per_second
    held = 0
    if plan.measured is not None:
        read, held = plan.measured.validation_rate, plan.measured.held_out_tokens
    elif fit is not None:
        held = round(
            min(recipe.validation.max_rows, rows.rows * recipe.data.validation_fraction)
            * fit.mean_length
        )
    later = later_stages(recipe, work, rates(read, plan.parameters, hardware), fit, held)
    start = plan.measured.start_seconds if plan.measured is not None else 0.0
    total = start + plan.time.expected + sum(stage.seconds for stage in later)
    warnings = plan.warnings + tuple(
        f"benchmark {stage.name}: {stage.problem}" for stage in later if stage.problem
    )
    return replace(
        plan,
        later=later,
        total_seconds=total,
        device_hours=total * hardware.count / 3600,
        dollars=money(hardware, total),
        warnings=warnings,
    )


def record_actual(run: RunFolder, peak: int | None = None) -> None:
    """Put what training really took beside what was planned; does nothing without a plan.

    Called again after the later stages, it adds their seconds. `peak`: bytes this process held at
    most while it trained, where that is known better than from the steps.
    """
    if not run.plan.is_file():
        return
    plan = read_json(run.plan)
    result = from_dict(TrainResult, read_json(run.train_result))
    planned = plan.get("time") or {}
    predicted = (plan.get("memory") or {}).get("total")
    before = plan.get("actual") or {}
    peak = peak or before.get("peak_bytes") or _recorded_peak(run)
    plan["actual"] = {
        "seconds": result.seconds,
        "steps": result.steps,
        "tokens": result.tokens_real,
        "tokens_per_second": result.tokens_real / result.seconds if result.seconds > 0 else None,
        "seconds_over_planned": result.seconds / planned["expected"] if planned else None,
        "peak_bytes": peak,
        "peak_over_planned": peak / predicted if peak and predicted else None,
        "completed": result.stopped == "completed",
        "stage_seconds": {
            name: stage.get("seconds")
            for name, stage in run.stages().items()
            if name in ("validate", "benchmark") and stage.get("status") == "done"
        },
    }
    write_json(run.plan, plan)


def _recorded_peak(run: RunFolder) -> int | None:
    """The largest peak of the recorded steps, bytes of one device; None when none was recorded."""
    peaks = (row.get("memory_bytes") or 0 for row in iterate_jsonl(run.steps))
    return max(peaks, default=0) or None
