"""Tokens, floating-point operations, time, money and disk of a training run, before it starts."""

import math
from dataclasses import dataclass

from sftprep.model.activations import layer_bytes
from sftprep.model.hardware import Hardware
from sftprep.model.job import Job
from sftprep.model.shape import ModelShape
from sftprep.recipe.sections import Recipe, TrainingSection

# Compute is 2 operations per weight and token forward and 4 backward (Kaplan et al. 2020); frozen
# weights need no gradient of their own; checkpointing repeats the forward pass.
FORWARD, BACKWARD, BACKWARD_FROZEN = 2, 4, 2
# How often a step moves the activations through memory. GPU: reads and writes of unfused
# normalisation and activation kernels. CPU: with the next, fitted to processor time of one Zen 3
# core (0.7M, 4M and 22M parameters, documents of 60 to 256 tokens, 2026-11-28: -14, +3 and 0 %).
ACTIVATION_PASSES = {"cuda": 6, "rocm": 6, "mps": 12, "cpu": 6}
# What an attention score that a CPU keeps costs forward and backward, in fp32 operations at the
# rate of the products: 16 ns, most of it softmax and passes over small matrices.
OPERATIONS_PER_SCORE = 1050
MULTI_DEVICE_EFFICIENCY = 0.9
# Packing fills about this share of the slots (best-fit decreasing gives 97 to 99 %).
PACKING_FILL = 0.97
# Loading, start-up checks, saving and reloading of a small model; it rules runs of a minute.
FIXED_SECONDS = 15.0
# Range around the expected time: what is known of the device differs less than what is not.
SPREAD_TABLE, SPREAD_OTHER = (0.75, 1.5), (0.5, 2.5)
# Training state of a step checkpoint: two fp32 moments per trained weight, and its fp32 master
# where the exported weights are 16 bit.
MOMENT_BYTES, MASTER_BYTES = 8, 4
# Model copies beside the step checkpoints: best validation, best train, the exported baseline.
MODEL_COPIES = 3


@dataclass(frozen=True, slots=True)
class Volume:
    """How much is computed. `tokens` are slots of packed rows; `epochs` None when unknown."""

    steps: int
    rows_per_step: int
    tokens_per_step: int
    tokens: int
    epochs: float | None


@dataclass(frozen=True, slots=True)
class TimeEstimate:
    """Seconds of training: expected, and a range that covers what is not known."""

    expected: float
    low: float
    high: float
    validation: float
    tokens_per_second: float


def training_volume(
    training: TrainingSection, devices: int, tokens_per_epoch: int | None
) -> Volume | None:
    """Steps and tokens of a run; None when only epochs are given and the data is unknown."""
    rows = training.batch_size * training.gradient_accumulation_steps * devices
    per_step = rows * training.max_length
    real_per_step = per_step * PACKING_FILL
    if training.max_steps is not None:
        steps = training.max_steps
    elif tokens_per_epoch and training.epochs:
        steps = max(1, math.ceil(tokens_per_epoch * training.epochs / real_per_step))
    else:
        return None
    epochs = steps * real_per_step / tokens_per_epoch if tokens_per_epoch else None
    return Volume(steps, rows, per_step, steps * per_step, epochs)


def training_flops(active_parameters: int, tokens: int) -> float:
    """6 N D: operations of full training without recomputation (Kaplan et al. 2020)."""
    return 6.0 * active_parameters * tokens


def _flops_per_token(job: Job) -> float:
    active = job.shape.active_parameters
    backward = BACKWARD if job.method == "full" else BACKWARD_FROZEN
    return float(active * (FORWARD + backward + (FORWARD if job.checkpointing else 0)))


def seconds_per_token(job: Job, hardware: Hardware) -> float:
    """Training seconds per token on all devices together: compute plus memory traffic."""
    rate = hardware.flops * hardware.efficiency if job.precision != "fp32" else hardware.fp32_rate
    layer = layer_bytes(job) / job.tokens
    traffic = layer * job.shape.layers * ACTIVATION_PASSES[hardware.kind] / hardware.bandwidth
    scores = job.shape.layers * job.shape.heads * job.score_span
    attention = scores * OPERATIONS_PER_SCORE / hardware.fp32_rate
    scale = hardware.count * (MULTI_DEVICE_EFFICIENCY if hardware.count > 1 else 1.0)
    return (_flops_per_token(job) / rate + traffic + attention) / scale


def training_time(
    job: Job, hardware: Hardware, volume: Volume, validation_tokens: int, validate_every: int
) -> TimeEstimate:
    """Seconds of training with the validations in between (a third of a step's cost per token)."""
    per_token = seconds_per_token(job, hardware)
    rounds = volume.steps // validate_every + 1
    validation = rounds * validation_tokens * per_token / 3
    expected = volume.tokens * per_token + validation + FIXED_SECONDS
    known = hardware.kind in ("cuda", "rocm") and "not in the table" not in hardware.source
    low, high = SPREAD_TABLE if known else SPREAD_OTHER
    return TimeEstimate(expected, expected * low, expected * high, validation, 1 / per_token)


def disk_bytes(
    recipe: Recipe, shape: ModelShape, parameters: int, stored: str | None, kind: str
) -> tuple[int, int]:
    """Bytes of one step checkpoint, and of everything a run keeps at once.

    `stored` is the dtype of the base model, `kind` that of the device: a float32 base and a CPU run
    export float32 unless the recipe says otherwise.
    """
    choice = recipe.output.weights_dtype
    if choice == "auto":
        whole = stored == "float32" or kind not in ("cuda", "rocm")
        choice = "float32" if whole else "bfloat16"
    model = parameters * (4 if choice == "float32" else 2)
    lora = recipe.training.method == "lora"
    trained = shape.lora_parameters(recipe.training.lora_rank) if lora else parameters
    masters = 0 if choice == "float32" and not lora else MASTER_BYTES
    step = model + (MOMENT_BYTES + masters) * trained
    being_written = 1
    steps = recipe.training.keep_checkpoints + being_written
    return step, steps * step + MODEL_COPIES * model


def money(hardware: Hardware, seconds: float) -> float | None:
    """Dollars for all devices, or None when the price is unknown."""
    if hardware.dollars_per_hour is None:
        return None
    return hardware.dollars_per_hour * hardware.count * seconds / 3600
