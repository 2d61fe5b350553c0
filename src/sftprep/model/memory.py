"""Memory of one training step per device: states by byte counting, activations by shape.

The trainer keeps fp32 weights (they are the masters) and computes in bf16 by casting them, so full
fine-tuning with AdamW holds 4 (weights) + 4 (gradients) + 8 (two moments) = 16 bytes per parameter
in either precision, as does a bf16 copy with fp32 masters beside it (2 + 2 + 4 + 8, Rajbhandari et
al. 2020, ZeRO, section 3.1), and 2 more per parameter for the casts while a step runs.

Not everything is held at once: gradients grow while activations are given back. The larger of the
two ends of the backward pass counts; `overlap` is what the sum of the parts has too much. The
activations are counted in activations.py.
"""

from dataclasses import asdict, dataclass

from sftprep.model.activations import (
    activation_bytes,
    head_work_bytes,
    inputs_bytes,
    layer_bytes,
    layer_work_bytes,
)
from sftprep.model.hardware import GIB, Hardware
from sftprep.model.job import Job

MASTER, CAST = 4, 2
# NF4 with doubly quantised constants: 4.127 bits a weight (Dettmers et al. 2023, section 3).
FOUR_BIT = 4.127 / 8
# Context of the driver and libraries on a GPU; on a CPU the interpreter with its libraries (0.40
# GiB after the imports) and the buffers of kernels and threads (0.15 GiB; docs/benchmarks.md).
RUNTIME_BYTES = {"cuda": 1.5 * GIB, "rocm": 1.5 * GIB, "mps": 1.0 * GIB, "cpu": 0.55 * GIB}
# What an allocator loses to holes: on a GPU a share of all that is held; on a CPU of what comes and
# goes with a step, because blocks without pages of their own (footprint.py) leave holes in the
# heap. There are more where freed memory is kept for the next step, as it is without checkpointing.
FRAGMENTATION = {"cuda": 0.05, "rocm": 0.05, "mps": 0.05}
CPU_HOLES, CPU_HOLES_CHECKPOINTING = 0.45, 0.25
# DDP here adds gradients over ranks in flat buckets of this size (train/distributed.py).
DDP_BUCKET_BYTES = 64 << 20
# Part of a device that a plan may use; the rest is for peaks the formula does not see.
USABLE_SHARE = 0.92


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes on one device. `sharded`: the states are split over the devices (FSDP2).

    `casts`: 16-bit copies of the weights for one step. `logits`: with all that loss and head, or
    the backward pass of a layer, hold beside them. `overlap`: part of the other parts that is never
    held at the same time; `total` is their sum without it.
    """

    weights: int
    gradients: int
    masters: int
    optimiser: int
    activations: int
    logits: int
    buffers: int
    sharded: bool
    casts: int = 0
    overlap: int = 0

    @property
    def states(self) -> int:
        """Weights, gradients, masters and optimiser: all that does not grow with the batch."""
        return self.weights + self.gradients + self.masters + self.optimiser

    @property
    def tensors(self) -> int:
        """What the allocator holds at its peak: everything but libraries, holes and transfers."""
        return self.states + self.casts + self.activations + self.logits - self.overlap

    @property
    def total(self) -> int:
        """Everything."""
        return self.tensors + self.buffers

    def as_dict(self) -> dict[str, int | bool]:
        """The parts with their sums, for plan.json."""
        sums = {"states": self.states, "tensors": self.tensors, "total": self.total}
        return {**asdict(self), **sums}


def cast_bytes(job: Job) -> int:
    """16-bit weights: all until the backward pass; where they are made again, part and the head.

    With checkpointing the part is a layer; 4-bit weights are unpacked matrix by matrix.
    """
    shape = job.shape
    if job.precision == "fp32":
        return 0
    if job.four_bit:
        return CAST * (shape.ffn + shape.vocab) * shape.hidden
    if not job.checkpointing:
        return CAST * job.parameters
    return CAST * (shape.layer_parameters(shape.experts) + shape.vocab * shape.hidden)


def gathered_bytes(job: Job) -> int:
    """Full weights that FSDP2 holds: this layer, the next one, and what lies outside the layers."""
    layer = job.shape.layer_parameters(job.shape.experts)
    return MASTER * (2 * layer + job.shape.outside_layers)


def _step_peak(job: Job, gradients: int, work: int) -> int:
    """Bytes of a step beside weights and moments: the larger end of its backward pass.

    At the beginning all activations and the `work` of head and last layer are there, and gradients
    only of earlier micro-batches; at the end all gradients, and either a recomputed layer or the
    gradient of the embeddings, which is added to that of a tied head.
    """
    casts = cast_bytes(job)
    begin = activation_bytes(job) + work
    if job.checkpointing:
        # a layer is recomputed from its input, which is there, when head and final norm are done
        own_input = inputs_bytes(job) // job.shape.layers
        recomputed = inputs_bytes(job) - own_input + layer_bytes(job) + layer_work_bytes(job)
        begin = max(begin - layer_bytes(job), recomputed)
    begin += casts + (gradients if job.passes > 1 else 0)
    embeddings = 0
    if job.method == "full" and job.shape.tied:
        copies = 2 if job.precision == "fp32" else 1
        embeddings = copies * 4 * job.shape.vocab * job.shape.hidden
    layer = layer_bytes(job) + CAST * job.shape.layer_parameters(job.shape.experts) * (casts > 0)
    return max(begin, gradients + max(embeddings, layer))


def frozen_bytes(job: Job) -> int:
    """Weights that do not learn; embeddings and head stay fp32 beside 4-bit layers."""
    if job.method == "full":
        return 0
    if not job.four_bit:
        return MASTER * job.parameters
    outside = min(job.shape.outside_layers, job.parameters)
    return round(FOUR_BIT * (job.parameters - outside)) + MASTER * outside


def memory_need(job: Job, hardware: Hardware) -> MemoryNeed:
    """Bytes on each device of `hardware` for this job."""
    states = {
        "weights": frozen_bytes(job) + MASTER * job.trained,
        "gradients": MASTER * job.trained,
        "masters": 0,
        "optimiser": job.moment_bytes * job.trained,
    }
    states = {name: -(-value // job.shards) for name, value in states.items()}
    work = max(head_work_bytes(job, on_cpu=hardware.kind == "cpu"), layer_work_bytes(job))
    parts = {"activations": activation_bytes(job), "casts": cast_bytes(job), "logits": work}
    peak = _step_peak(job, states["gradients"], work)
    held = states["weights"] + states["optimiser"] + peak
    transfer = 0
    if hardware.count > 1:
        bucket = min(DDP_BUCKET_BYTES, states["gradients"])
        transfer = gathered_bytes(job) if job.shards > 1 else bucket
    if hardware.kind == "cpu":
        holes = CPU_HOLES_CHECKPOINTING if job.checkpointing else CPU_HOLES
        lost = holes * (parts["activations"] + parts["logits"])
    else:
        lost = FRAGMENTATION[hardware.kind] * held
    return MemoryNeed(
        **states,
        **parts,
        buffers=int(RUNTIME_BYTES[hardware.kind] + lost) + transfer,
        sharded=job.shards > 1,
        overlap=states["gradients"] + sum(parts.values()) - peak,
    )


def usable_bytes(hardware: Hardware) -> int:
    """Bytes of one device that a plan may fill."""
    return int(hardware.memory_bytes * USABLE_SHARE)


def fits(need: MemoryNeed, hardware: Hardware) -> bool:
    """True when the job runs on every device of this hardware."""
    return need.total <= usable_bytes(hardware)
