"""Write a commented recipe that fits the model, the data and the machine, and runs unedited."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftprep.data.load import source_files
from sftprep.errors import ModelError, RecipeError
from sftprep.model.catalogue import facts_for
from sftprep.model.describe import ModelFacts
from sftprep.model.estimate import training_volume
from sftprep.model.hardware import AUTO, GIB, Hardware, parse_hardware
from sftprep.model.licences import judge
from sftprep.model.memory import fits
from sftprep.model.sample import RowSample, TokenFit, sample_rows, token_fit
from sftprep.model.settings import job_for, nearest
from sftprep.recipe.presets import Preset, preset_for
from sftprep.recipe.sections import DataSection, Source, TrainingSection
from sftprep.recipe.template import Line, TextSection, recipe_text
from sftprep.store.durable import write_text

USES = ("research", "commercial")
# More passes than this overfit instruction data of ten thousand rows; fewer leave it unlearned.
EPOCHS = 3
MIN_STEPS = 100
WARMUP_SHARE = 0.1  # the stage document: 500 of 5000 steps
VALIDATIONS, SAVES = 10, 4
LORA_RATE = 2e-4
LORA_SOURCE = "adapters: Dettmers et al. 2023 (QLoRA), 7B and 13B"
STAGE_DOCUMENT = "stage document, recommended hyperparameters (7B model)"


@dataclass(frozen=True, slots=True)
class _Start:
    """Everything looked at before writing."""

    facts: ModelFacts
    sources: tuple[Source, ...]
    rows: RowSample
    fit: TokenFit | None
    hardware: Hardware
    preset: Preset


def write_recipe(
    out: Path | str,
    *,
    base: str,
    data: str | Path | Sequence[str | Path],
    hardware: str | None = None,
    use: str = "research",
    benchmarks: Path | None = None,
    benchmark_limit: int | None = None,
    run_dir: str | None = None,
) -> Path:
    """Write a recipe with recommended values and their sources; returns its path.

    Args:
        out: file to write; an existing one is never overwritten.
        base: model folder or hub id. data: files or folders of instruction rows.
        hardware: for example `8xH100-80GB`; None means this machine.
        use: research or commercial.
        benchmarks: folder with one sub-folder per benchmark; default: `benchmarks` beside `out`.
        benchmark_limit: items of each benchmark to use; None: all.
        run_dir: run folder; default: runs/NAME of the recipe.
    Raises:
        RecipeError: `out` exists, or `hardware` or `use` is unknown.
        ModelError, DataError: the model or the data cannot be read.
    """
    path = Path(out)
    if path.exists():
        raise RecipeError(f"{path}: exists already. Choose another --out, or delete it first.")
    if use not in USES:
        raise RecipeError(f"use '{use}': expected {' or '.join(USES)}.")
    paths = [data] if isinstance(data, str | Path) else list(data)
    if not paths:
        raise RecipeError("no data is given: name at least one file or folder (--data).")
    sources = tuple(Source(path=str(p)) for p in paths)
    for source in sources:
        source_files(source)
    start = _look(base, sources, parse_hardware(hardware or AUTO))
    sections = (
        _model(start, path, hardware or AUTO, use),
        _data(start, path),
        _training(start),
        _validation(start),
        _benchmarks(path, benchmarks, benchmark_limit),
        TextSection("gate", _GATE),
        TextSection(
            "output", (Line("run_dir", run_dir or f"runs/{path.stem}", "every result goes here"),)
        ),
    )
    write_text(path, recipe_text(_head(start, path), sections))
    return path


def _look(base: str, sources: tuple[Source, ...], hardware: Hardware) -> _Start:
    facts = facts_for(base)
    if facts.parameters is None:
        raise ModelError(
            f"{base}: its size is unknown, so no values can be recommended. Give a folder with "
            "safetensors weights, or write the recipe by hand (docs/recipes.md)."
        )
    rows = sample_rows(DataSection(sources=sources), None)
    fit = token_fit(rows.pairs, facts.folder)
    return _Start(facts, sources, rows, fit, hardware, preset_for(facts.parameters))


def _head(start: _Start, path: Path) -> list[str]:
    return [
        "Recipe of one run: base model to validated SFT baseline. Written by `sftprep init`.",
        f"Check it:  sftprep run {path.name} --dry-run      Run it:  sftprep run {path.name}",
        "Every key and its default: docs/recipes.md. Values without a comment are defaults.",
    ]


def _beside(target: str, out: Path) -> str:
    """A path relative to the recipe when it lies below its folder, else absolute."""
    found = Path(target).expanduser().resolve()
    folder = out.resolve().parent
    return str(found.relative_to(folder)) if found.is_relative_to(folder) else str(found)


def _model(start: _Start, out: Path, hardware: str, use: str) -> TextSection:
    facts = start.facts
    judged = judge(facts.licence, "commercial" if use == "commercial" else "research")
    about = f"{facts.parameters:,} parameters ({facts.parameters_from}), {facts.architecture}"
    base = _beside(facts.folder, out) if Path(facts.ref).is_dir() and facts.folder else facts.ref
    lines = (
        Line("base", base, about),
        Line("chat_template", "auto", "the model's own" if facts.chat_template else
             "it has none: the built-in template `plain` is used"),
        Line("intended_use", use, "; ".join([judged.why, *judged.conditions])),
        Line("hardware", hardware, start.hardware.label),
    )  # fmt: skip
    return TextSection("model", lines)


def _data(start: _Start, out: Path) -> TextSection:
    rows = start.rows
    listed = [{"path": _beside(source.path, out), "format": "auto"} for source in start.sources]
    formats = ", ".join(rows.formats) or "none recognised"
    enough = "" if rows.rows >= 10_000 else f"; ONLY ABOUT {rows.rows:,} HERE: add data"
    lines = (
        Line("sources", listed, f"about {rows.rows:,} rows; formats: {formats}"),
        Line("minimum_rows", 10_000, f"stage document: at least 10K examples{enough}"),
        Line("validation_fraction", 0.05, "held out by groups of related rows, never trained on"),
    )
    remarks = [f"Trouble reading: {rows.problem}"] if rows.problem else []
    return TextSection("data", lines, remarks)


def _training(start: _Start) -> TextSection:
    values, source, remarks = _values(start)
    keys = (
        "method", "lora_base_4bit", "parallel", "learning_rate", "batch_size",
        "gradient_accumulation_steps", "max_steps", "epochs", "warmup_steps", "lr_scheduler",
        "weight_decay", "max_length", "precision", "gradient_checkpointing", "validate_every",
        "save_every",
    )  # fmt: skip
    lines = [Line(key, values[key], source.get(key, "")) for key in keys if key in values]
    return TextSection("training", lines, remarks)


def _values(start: _Start) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Values by preset, cut to the model's context, the data and the memory; and why."""
    preset = start.preset
    values: dict[str, Any] = {
        "learning_rate": 2e-5, "batch_size": 8, "gradient_accumulation_steps": 4,
        "max_steps": 5000, "lr_scheduler": "cosine", "weight_decay": 0.01, "max_length": 2048,
        "precision": "auto", "gradient_checkpointing": "auto",
    }  # fmt: skip
    source = {key: STAGE_DOCUMENT for key in values if key not in ("precision",)}
    source["precision"] = "bf16 where the machine has it; master weights stay fp32"
    source["gradient_checkpointing"] = "auto: only when activations do not fit"
    for key, value in preset.training.items():
        if key in values:
            values[key], source[key] = value, f"{preset.name}: {preset.source}"
    context = start.facts.context
    if context is not None and context < values["max_length"]:
        values["max_length"], source["max_length"] = context, "the model's context"
    _fit_data(start, values, source)
    return values, source, _fit_memory(start, values, source)


def _fit_memory(start: _Start, values: dict[str, Any], source: dict[str, str]) -> list[str]:
    """Change batch, checkpointing or method until the job fits; say so above the section."""
    facts, hardware = start.facts, start.hardware
    if facts.shape is None or facts.parameters is None:
        return ["Memory was not checked: the model's layout is unknown."]
    training = TrainingSection(**values)
    job, need, _ = job_for(facts.shape, facts.parameters, training, hardware, start.fit)
    if fits(need, hardware):
        return [f"Needs {need.total / GIB:.1f} GiB on {hardware.label}."]
    options = nearest(job, training, hardware)
    if not options:
        return [f"DOES NOT FIT on {hardware.label}; `sftprep plan` lists what would."]
    other, _ = options[0]
    for key, value in other.changes.items():
        name = key.removeprefix("training.")
        if values.get(name) != value:
            values[name], source[name] = value, f"to fit on {hardware.label}"
    if values.get("method") == "lora":
        values["learning_rate"], source["learning_rate"] = LORA_RATE, LORA_SOURCE
    return [f"Needs {other.memory_bytes / GIB:.1f} GiB on {hardware.label}: {other.text}."]


def _fit_data(start: _Start, values: dict[str, Any], source: dict[str, str]) -> None:
    """No more than EPOCHS passes; warm-up, validation and saving in proportion to the steps."""
    fit, rows = start.fit, start.rows
    tokens = round(fit.mean_length * rows.rows * 0.95) if fit else None
    steps = values["max_steps"]
    devices = start.hardware.count if not start.hardware.detected else 1
    _smaller_steps(values, source, devices, tokens)
    if tokens and _steps(values, devices, tokens) < steps:
        steps = _steps(values, devices, tokens)
        values |= {"max_steps": None, "epochs": EPOCHS}
        source["epochs"] = f"about {steps:,} steps on this data"
        source["max_steps"] = f"{EPOCHS} passes are fewer than the stage document's 5000 steps"
    values["warmup_steps"] = max(1, min(500, round(WARMUP_SHARE * steps)))
    source["warmup_steps"] = "a tenth of the steps, as in the stage document (500 of 5000)"
    values["validate_every"] = max(1, min(100, steps // VALIDATIONS))
    source["validate_every"] = "steps between validations"
    values["save_every"] = max(1, min(500, steps // SAVES))
    source["save_every"] = "steps between latest checkpoints"


def _steps(values: dict[str, Any], devices: int, tokens: int) -> int:
    """Optimiser steps of EPOCHS passes."""
    section = TrainingSection(**{**values, "max_steps": None, "epochs": EPOCHS})
    volume = training_volume(section, devices, tokens)
    assert volume is not None
    return volume.steps


def _smaller_steps(
    values: dict[str, Any], source: dict[str, str], devices: int, tokens: int | None
) -> None:
    """Keep the rows of a step over all devices, and enough steps to learn from little data.

    A packed row holds many conversations, so a step of few packed rows is not a small batch.
    """
    accumulation = "gradient_accumulation_steps"
    shared = devices
    while shared > 1 and values[accumulation] > 1:
        values[accumulation] //= 2
        shared //= 2
        source[accumulation] = "divided by the devices: the rows of one step stay the same"
    for key in (accumulation, "batch_size"):
        while tokens and values[key] > 1 and _steps(values, devices, tokens) < MIN_STEPS:
            values[key] //= 2
            source[key] = f"halved until {EPOCHS} passes have {MIN_STEPS} steps, where possible"


def _validation(start: _Start) -> TextSection:
    lines = (
        Line("max_rows", 2000, "held-out rows for perplexity"),
        Line("samples", 20, "generations shown side by side, base and SFT"),
        Line("max_new_tokens", min(128, (start.facts.context or 512) // 4)),
    )
    return TextSection("validation", lines)


def _benchmarks(out: Path, given: Path | None, limit: int | None) -> TextSection:
    beside = out.resolve().parent / "benchmarks"
    folder = given or (beside if beside.is_dir() and os.access(beside, os.R_OK) else None)
    why = "one sub-folder per benchmark; else the hub"
    if folder is not None:
        if not folder.is_dir():
            raise RecipeError(f"benchmarks {folder}: no such folder. Correct --benchmarks.")
        why = "as asked" if given else "found beside this file"
    lines = (
        Line("data_dir", _beside(str(folder), out) if folder else None, why),
        Line("limit", limit, "e.g. 100: a quick subset, recorded as a subset"),
        Line("base_model", True, "also score the base model: what did training gain or lose"),
    )
    remarks = ["MMLU, HumanEval, GSM8K, TruthfulQA, HellaSwag and IFEval unless `tasks` is given."]
    return TextSection("benchmarks", lines, remarks)


_GATE = (
    Line("max_validation_perplexity", 20.0, "stage document: below 20; also below the base model"),
    Line("min_instruction_following", 0.5, "and significantly above the base model"),
    Line("allow_subsets", False, "true accepts benchmark subsets, for trying the tool"),
)
