"""The plan: will it fit, how long, what does it cost; written before anything is spent."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sftprep.errors import ModelError
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
from sftprep.model.memory import MemoryNeed, fits
from sftprep.model.sample import RowSample, TokenFit, sample_rows, token_fit
from sftprep.model.settings import Alternative, Choice, alternatives, job_for
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe
from sftprep.records import TrainResult, from_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import free_bytes, read_json, write_json
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
    first, when `fits` is false. `actual` is filled in after training.
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
    actual: Mapping[str, float] | None = None
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
    world = environment.get("WORLD_SIZE", "1")
    return replace(hardware, count=max(1, int(world)) if world.isdigit() else 1)


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
    job, need, choices = job_for(facts.shape, facts.parameters, training, hardware)
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


def readable_seconds(seconds: float) -> str:
    """For example `13.4 hours`."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def plan_lines(plan: Plan) -> list[str]:
    """The plan in words."""
    need, available = int(plan.memory["total"]), plan.memory_available
    lines = [
        f"model: {plan.model}, {plan.parameters:,} parameters ({plan.parameters_from})",
        f"hardware: {plan.hardware_label}",
        f"memory: {need / GIB:.1f} of {available / GIB:.1f} GiB per device: "
        + ("fits" if plan.fits else "does not fit"),
    ]
    lines += [f"{choice.key}: {choice.value} ({choice.why})" for choice in plan.choices]
    if plan.volume and plan.time:
        epochs = f", {plan.volume.epochs:.1f} epochs" if plan.volume.epochs else ""
        time = plan.time
        lines += [
            f"work: {plan.volume.steps:,} steps, {plan.volume.tokens / 1e6:,.1f}M tokens{epochs}, "
            f"{plan.flops or 0:.2g} FLOP",
            f"time: {readable_seconds(time.expected)} (between {readable_seconds(time.low)} and "
            f"{readable_seconds(time.high)}), {time.tokens_per_second:,.0f} tokens/s",
        ]
    if plan.dollars is not None:
        lines.append(f"cost: {plan.device_hours:,.1f} device hours, ${plan.dollars:,.0f} "
                     f"({plan.price_source})")  # fmt: skip
    lines.append(f"disk: {plan.disk_bytes / GIB:.2f} GiB ({plan.checkpoint_bytes / GIB:.2f} each)")
    lines.append(f"stage document: {plan.stage_document}")
    lines += [f"would fit: {other.text}" for other in plan.alternatives]
    return lines + [f"warning: {text}" for text in plan.warnings]


def plan_stage(recipe: Recipe, run: RunFolder, progress: Progress, stop: StopSignal) -> Plan:
    """Write plan.json and say what it holds. What does not fit is said, not refused."""
    stop.check("planning")
    plan = make_plan(recipe, run)
    write_json(run.plan, asdict(plan))
    for line in plan_lines(plan):
        progress.line(f"  {line}")
    return plan


def record_actual(run: RunFolder) -> None:
    """Put what training really took beside what was planned; does nothing without a plan."""
    if not run.plan.is_file():
        return
    plan = read_json(run.plan)
    result = from_dict(TrainResult, read_json(run.train_result))
    planned = plan.get("time") or {}
    plan["actual"] = {
        "seconds": result.seconds,
        "steps": result.steps,
        "tokens": result.tokens_real,
        "tokens_per_second": result.tokens_real / result.seconds if result.seconds > 0 else None,
        "seconds_over_planned": result.seconds / planned["expected"] if planned else None,
        "completed": result.stopped == "completed",
    }
    write_json(run.plan, plan)
