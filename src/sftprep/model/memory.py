"""Memory of one training step per device: states by byte counting, activations by shape.

States of full fine-tuning with AdamW and fp32 master weights: 2 (bf16 weights) + 2 (gradients)
+ 4 (masters) + 8 (two moments) = 16 bytes per parameter; in fp32 4 + 4 + 0 + 8 = 16 as well.
Source: Rajbhandari et al. 2020 (ZeRO), section 3.1.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from sftprep.model.hardware import GIB, Hardware
from sftprep.model.shape import ModelShape

Method = Literal["full", "lora"]
Precision = Literal["fp32", "bf16"]

# Logits live in fp32 with their log-softmax and gradient, one chunk of supervised positions at a
# time; the chunk is that of model/loss.py (a test compares them).
LOGITS_CHUNK_VALUES = 1 << 26
LOGITS_BYTES = 4 + 4 + 4
# Context of the driver and libraries, and what the allocator loses to fragmentation.
RUNTIME_BYTES = {"cuda": 1.5 * GIB, "rocm": 1.5 * GIB, "mps": 1.0 * GIB, "cpu": 0.7 * GIB}
FRAGMENTATION = 0.05
# Part of a device that a plan may use; the rest is for peaks the formula does not see.
USABLE_SHARE = 0.92


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained: `rows` packed rows of `length` tokens per device and micro-batch."""

    shape: ModelShape
    parameters: int
    method: Method
    precision: Precision
    rows: int
    length: int
    checkpointing: bool
    lora_rank: int = 16


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes on one device. `sharded`: the states are split over the devices (FSDP)."""

    weights: int
    gradients: int
    masters: int
    optimiser: int
    activations: int
    logits: int
    buffers: int
    sharded: bool

    @property
    def states(self) -> int:
        """Weights, gradients, masters and optimiser: all that does not grow with the batch."""
        return self.weights + self.gradients + self.masters + self.optimiser

    @property
    def total(self) -> int:
        """Everything."""
        return self.states + self.activations + self.logits + self.buffers

    def as_dict(self) -> dict[str, int | bool]:
        """The parts with their sums, for plan.json."""
        return {**asdict(self), "states": self.states, "total": self.total}


def activation_bytes_per_token(shape: ModelShape, precision: Precision) -> int:
    """Bytes one layer keeps per token for its backward pass, with fused attention.

    Counted along a pre-norm block: both norms' inputs and outputs (4 x hidden), queries and keys
    before and after rotation, values, attention output, and gate, up, their activation and product
    in the feed-forward network. Attention scores are recomputed, not kept (Dao et al. 2022).
    Compare: 34 x hidden bytes for an older block in 16 bit (Korthikanti et al. 2022).
    """
    maps = 4 if shape.gated_mlp else 2
    attention = 2 * (shape.query_width + shape.kv_width) + shape.kv_width + shape.query_width
    values = 4 * shape.hidden + attention + maps * shape.ffn * shape.experts_used
    return values * (2 if precision == "bf16" else 4)


def activation_bytes(job: Job) -> int:
    """Bytes of activations of one micro-batch on one device.

    With checkpointing each layer keeps its input, and one layer at a time is recomputed in full.
    """
    tokens = job.rows * job.length
    layer = activation_bytes_per_token(job.shape, job.precision)
    if not job.checkpointing:
        return tokens * layer * job.shape.layers
    width = 2 if job.precision == "bf16" else 4
    return tokens * (job.shape.hidden * width * job.shape.layers + layer)


def memory_need(job: Job, hardware: Hardware, *, sharded: bool) -> MemoryNeed:
    """Bytes on each device of `hardware` for this job."""
    share = hardware.count if sharded else 1
    width = 2 if job.precision == "bf16" else 4
    trained = job.parameters if job.method == "full" else job.shape.lora_parameters(job.lora_rank)
    frozen = 0 if job.method == "full" else job.parameters
    # Adapters stay in fp32 whatever the base model's precision; they are small.
    trained_width = width if job.method == "full" else 4
    masters = 4 * trained if job.method == "full" and width == 2 else 0
    layer = width * job.shape.layer_parameters(job.shape.experts)
    states = {
        "weights": width * frozen + trained_width * trained,
        "gradients": trained_width * trained,
        "masters": masters,
        "optimiser": 8 * trained,
    }
    states = {name: -(-value // share) for name, value in states.items()}
    activations = activation_bytes(job)
    logits = min(LOGITS_CHUNK_VALUES, job.rows * job.length * job.shape.vocab) * LOGITS_BYTES
    gathered = 2 * layer if sharded and share > 1 else 0  # the current layer and the next one
    known = sum(states.values()) + activations + logits
    buffers = int(RUNTIME_BYTES[hardware.kind] + FRAGMENTATION * known) + gathered
    return MemoryNeed(
        activations=activations,
        logits=logits,
        buffers=buffers,
        sharded=sharded and share > 1,
        **states,
    )


def usable_bytes(hardware: Hardware) -> int:
    """Bytes of one device that a plan may fill."""
    return int(hardware.memory_bytes * USABLE_SHARE)


def fits(need: MemoryNeed, hardware: Hardware) -> bool:
    """True when the job runs on every device of this hardware."""
    return need.total <= usable_bytes(hardware)


def best_need(job: Job, hardware: Hardware) -> MemoryNeed:
    """Replicated when that fits (less traffic), else sharded over all devices."""
    replicated = memory_need(job, hardware, sharded=False)
    if hardware.count == 1 or fits(replicated, hardware):
        return replicated
    return memory_need(job, hardware, sharded=True)
