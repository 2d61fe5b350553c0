"""What `auto` means on a machine, and the nearest setting that fits when the recipe's does not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from sftprep.model.accelerators import ACCELERATORS
from sftprep.model.activations import layer_bytes
from sftprep.model.catalogue import catalogue
from sftprep.model.hardware import GIB, Hardware, parse_hardware
from sftprep.model.job import MOMENTS, MOMENTS_8BIT, Job, Precision
from sftprep.model.licences import Use, judge
from sftprep.model.memory import MemoryNeed, fits, memory_need
from sftprep.model.padding import CPU_PIECE_TOKENS, paddings
from sftprep.model.sample import TokenFit
from sftprep.model.shape import ModelShape
from sftprep.recipe.sections import TrainingSection

# Below this width bf16 conversions cost a CPU more than its tile units save: measured at 64 and 128
# (no gain). The trainer uses the same limit (train/precision.py; a test compares them).
CPU_BF16_HIDDEN = 512
MAX_DEVICES = 1024
# HSDP splits the states within a machine; this many devices is usual.
DEVICES_PER_MACHINE = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting that the plan decided, and why."""

    key: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """A change that makes the job fit. `changes`: recipe keys and values; empty for hardware."""

    text: str
    changes: Mapping[str, Any]
    memory_bytes: int


def choose_precision(training: TrainingSection, hidden: int, hardware: Hardware) -> Choice:
    """The precision of compute; masters stay fp32."""
    key = "training.precision"
    if training.precision != "auto":
        return Choice(key, training.precision, "the recipe says so")
    if not hardware.bf16:
        if hardware.kind in ("cuda", "rocm"):
            return Choice(key, "fp16", f"{hardware.device} has no bf16; the loss is scaled")
        return Choice(key, "fp32", f"{hardware.device} has no fast bf16")
    if hardware.kind == "cpu" and hidden < CPU_BF16_HIDDEN:
        return Choice(
            key, "fp32", f"hidden size {hidden}: converting to bf16 costs more than it saves"
        )
    return Choice(key, "bf16", f"{hardware.device} computes bf16 faster, in half the memory")


def choose_checkpointing(training: TrainingSection, job: Job, hardware: Hardware) -> Choice:
    """Recompute activations only when they do not fit: it costs a third more compute."""
    key = "training.gradient_checkpointing"
    if training.gradient_checkpointing != "auto":
        return Choice(key, training.gradient_checkpointing, "the recipe says so")
    plain = memory_need(replace(job, checkpointing=False), hardware)
    size = f"{plain.total / GIB:.1f} of {hardware.memory_bytes / GIB:.1f} GiB"
    if fits(plain, hardware):
        return Choice(
            key, "off", f"everything fits without it ({size}); it would cost a third more"
        )
    return Choice(key, "on", f"without it the job needs {size} per device")


def choose_parallel(training: TrainingSection, hardware: Hardware) -> list[Choice]:
    """How several devices share the work; nothing to choose for one."""
    if hardware.count == 1:
        return []
    if training.parallel != "auto":
        return [Choice("training.parallel", training.parallel, "the recipe says so")]
    return [Choice("training.parallel", "ddp", "auto: every device holds the whole model")]


def shards_of(parallel: str, devices: int) -> int:
    """Devices that share one copy of weights, gradients and optimiser."""
    return {"fsdp": devices, "hsdp": min(devices, DEVICES_PER_MACHINE)}.get(parallel, 1)


def alternatives(
    job: Job, training: TrainingSection, hardware: Hardware, use: Use
) -> tuple[Alternative, ...]:
    """Changes that make the job fit, nearest first; at most one of each kind."""
    here = [other for other, _ in nearest(job, training, hardware)]
    split = any("training.parallel" in other.changes for other in here)
    return (
        *here,
        *([] if split else _more_devices(job, hardware)),
        *_larger_device(job, hardware),
        *_smaller_model(job, hardware, use),
    )


def nearest(
    job: Job, training: TrainingSection, hardware: Hardware
) -> list[tuple[Alternative, Job]]:
    """Settings that make this model fit here: smaller micro-batches, shards, adapters, 4 bits."""
    found = [
        *_first(_smaller_batches(job, training), hardware),
        *_first(_shards(job, training, hardware), hardware),
        *_first(_adapters(job, training), hardware),
    ]
    if not found and hardware.kind == "cuda":
        found = _first(_adapters(job, training, four_bit=True), hardware)
    return found


def _first(
    options: Iterator[tuple[str, dict[str, Any], Job]], hardware: Hardware
) -> list[tuple[Alternative, Job]]:
    for text, changes, job in options:
        need = memory_need(job, hardware)
        if fits(need, hardware):
            return [(Alternative(text, changes, need.total), job)]
    return []


def _halved(rows: int) -> Iterator[int]:
    while rows > 1:
        rows //= 2
        yield rows


def _smaller_batches(
    job: Job, training: TrainingSection
) -> Iterator[tuple[str, dict[str, Any], Job]]:
    """The same optimiser step from smaller micro-batches, with recomputation."""
    on = {"training.gradient_checkpointing": "on"}
    if not job.checkpointing:
        yield "gradient checkpointing on", on, replace(job, checkpointing=True)
    effective = job.rows * training.gradient_accumulation_steps
    for rows in _halved(job.rows):
        changes = on | {
            "training.batch_size": rows,
            "training.gradient_accumulation_steps": -(-effective // rows),
        }
        text = (
            f"batch_size {rows}, gradient_accumulation_steps {-(-effective // rows)}, checkpointing"
        )
        accumulation = -(-effective // rows)
        yield text, changes, replace(job, checkpointing=True, rows=rows, accumulation=accumulation)


def _shards(
    job: Job, training: TrainingSection, hardware: Hardware
) -> Iterator[tuple[str, dict[str, Any], Job]]:
    """The states split over the devices; then smaller micro-batches besides."""
    if hardware.count == 1 or job.shards > 1:
        return
    split = replace(job, shards=hardware.count)
    change = {"training.parallel": "fsdp"}
    yield "parallel: fsdp (states split over the devices)", change, split
    for text, more, smaller in _smaller_batches(split, training):
        yield f"parallel: fsdp, {text}", change | more, smaller


def _adapters(
    job: Job, training: TrainingSection, *, four_bit: bool = False
) -> Iterator[tuple[str, dict[str, Any], Job]]:
    """LoRA with ever smaller micro-batches; `four_bit`: on a base in 4 bits (QLoRA)."""
    if job.method == "lora" and (job.four_bit or not four_bit):
        return
    base: dict[str, Any] = {"training.method": "lora", "training.gradient_checkpointing": "on"}
    name = f"LoRA rank {job.lora_rank}"
    if four_bit:
        base["training.lora_base_4bit"] = True
        name += " on a 4-bit base (needs bitsandbytes)"
    effective = job.rows * training.gradient_accumulation_steps
    for rows in (job.rows, *_halved(job.rows)):
        accumulation = -(-effective // rows)
        changes = base | {
            "training.batch_size": rows,
            "training.gradient_accumulation_steps": accumulation,
        }
        smaller = replace(
            job, method="lora", four_bit=four_bit, checkpointing=True, rows=rows,
            accumulation=accumulation,
        )  # fmt: skip
        yield f"{name}, batch_size {rows} x {accumulation}", changes, smaller


def _more_devices(job: Job, hardware: Hardware) -> list[Alternative]:
    """Twice as many devices, and again, with the states split over them."""
    if hardware.kind not in ("cuda", "rocm"):
        return []
    count = hardware.count
    while count < MAX_DEVICES:
        count *= 2
        need = memory_need(
            replace(job, checkpointing=True, shards=count), replace(hardware, count=count)
        )
        if fits(need, hardware):
            text = f"{count} x {hardware.device}, parallel: fsdp, with checkpointing"
            return [Alternative(text, {"training.parallel": "fsdp"}, need.total)]
    return []


def _larger_device(job: Job, hardware: Hardware) -> list[Alternative]:
    """As many of the smallest device of the table that holds the job with checkpointing."""
    if hardware.kind not in ("cuda", "rocm"):
        return []
    for row in sorted(ACCELERATORS, key=lambda row: (row.memory_bytes, row.name)):
        larger = parse_hardware(f"{hardware.count}x{row.name}-{row.memory_gb}GB")
        need = memory_need(replace(job, checkpointing=True), larger)
        if row.bf16 and row.memory_bytes > hardware.memory_bytes and fits(need, larger):
            return [Alternative(f"{larger.label} with checkpointing", {}, need.total)]
    return []


def _smaller_model(job: Job, hardware: Hardware, use: Use) -> list[Alternative]:
    """The largest catalogue model that trains in full with this micro-batch or a single row."""
    for row in sorted(catalogue(), key=lambda row: -row.parameters):
        if row.parameters >= job.parameters or judge(row.licence, use).standing != "free":
            continue
        for rows in (job.rows, 1):
            smaller = Job(
                row.shape, row.parameters, "full", job.precision, rows,
                min(job.length, row.context), True, shards=job.shards, piece=job.piece,
            )  # fmt: skip
            need = memory_need(smaller, hardware)
            if fits(need, hardware):
                text = (
                    f"full fine-tuning of {row.id} ({row.parameters / 1e9:.2f}B), batch_size {rows}"
                )
                changes = {"model.base": row.id, "training.batch_size": rows}
                return [Alternative(text, changes, need.total)]
    return []


def job_for(
    shape: ModelShape,
    parameters: int,
    training: TrainingSection,
    hardware: Hardware,
    fit: TokenFit | None = None,
) -> tuple[Job, MemoryNeed, tuple[Choice, ...]]:
    """The job as it will run, its memory, and what was decided about it."""
    precision = choose_precision(training, shape.hidden, hardware)
    value = cast("Precision", precision.value)
    job = Job(
        shape, parameters, training.method, value, training.batch_size, training.max_length,
        training.gradient_checkpointing == "on", training.lora_rank,
        fit.supervised if fit and training.train_on == "responses" else 1.0,
        training.gradient_accumulation_steps,
        shards=shards_of(training.parallel, hardware.count),
        four_bit=training.lora_base_4bit,
        moment_bytes=MOMENTS_8BIT if training.optimizer == "adamw_8bit" else MOMENTS,
        piece=CPU_PIECE_TOKENS if hardware.kind == "cpu" else None,
    )  # fmt: skip
    job = _padded(job, hardware, fit)
    checkpointing = choose_checkpointing(training, job, hardware)
    job = replace(job, checkpointing=checkpointing.value == "on")
    choices = (precision, checkpointing, *choose_parallel(training, hardware))
    return job, memory_need(job, hardware), choices


def _padded(job: Job, hardware: Hardware, fit: TokenFit | None) -> Job:
    """With the padding of its fullest micro-batch, where attention cannot take packed documents."""
    gpu = hardware.kind in ("cuda", "rocm")
    if gpu and job.precision != "fp32":
        return job
    if fit is None or not fit.row_lengths:
        return replace(job, places=1.0)
    found = (
        replace(job, places=one.places, score_span=0.0 if gpu else one.score_span)
        for one in paddings(fit.row_lengths, job.rows, job.length, job.piece)
    )
    return max(found, key=layer_bytes)
