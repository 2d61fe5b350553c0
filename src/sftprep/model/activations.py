"""What one micro-batch holds between its forward and its backward pass, tensor by tensor.

The formula follows the tensors of a pre-norm block as this trainer runs it (model/attention.py,
model/head.py); `benchmarks/plan.py` compares it with what torch's allocator really holds.
"""

from sftprep.model.job import Job, Method, Precision
from sftprep.model.shape import ModelShape

# Logits are held once, in the compute dtype, a chunk of supervised positions at a time, and worked
# on in float32, on a CPU a few rows at a time; sizes of model/head.py (a test compares them).
LOGITS_CHUNK_VALUES = 1 << 26
LOGITS_CACHE_VALUES = 1 << 20


def activation_bytes_per_token(
    shape: ModelShape,
    precision: Precision,
    method: Method = "full",
    *,
    places: float = 0.0,
    score_span: float = 0.0,
    lora_rank: int = 0,
) -> int:
    """Bytes one layer keeps per token for its backward pass.

    fp32, counted along a pre-norm block: each norm's input, normalised value and output (a frozen
    norm needs no normalised value, LayerNorm keeps none), queries, keys, values and the attention's
    output, and gate, up, their activation and product in the feed-forward network; adapters keep
    one value per rank and map. Where documents are padded for attention (`places` > 0), queries,
    keys, values and output are padded copies, and the output is kept once more without padding.
    Attention scores are recomputed, not kept (Dao et al. 2022), except where attention.py takes
    plain products: short documents on a CPU, `score_span` of them per token and head. In bf16 the
    residual stream and the norms stay fp32, and every map that reads a norm keeps its own 16-bit
    copy. Compare: 34 x hidden bytes for an older block in 16 bit (Korthikanti et al. 2022).
    """
    lora = method == "lora"
    normed = 1 if shape.norm_bias or lora else 2
    heads: float = 2 * (shape.query_width + shape.kv_width)
    if places:
        heads = places * heads + shape.heads * score_span + shape.query_width
    if shape.qk_norm != "none":
        heads += normed * (shape.query_width + shape.kv_width)
    maps = 4 if shape.gated_mlp else 2
    feed_forward = maps * shape.ffn * shape.experts_used
    readers = 3 + (2 if shape.gated_mlp else 1)
    adapters = lora_rank * (readers + 2) if lora else 0
    inner = heads + feed_forward + adapters
    if precision == "fp32":
        return round(4 * (shape.norms * (normed + 1) * shape.hidden + inner))
    norms = (4 * normed * shape.norms + 2 * readers) * shape.hidden
    return round(norms + 2 * inner)


def layer_bytes(job: Job) -> int:
    """Activations of one layer."""
    return job.tokens * activation_bytes_per_token(
        job.shape, job.precision, job.method, places=job.places, score_span=job.score_span,
        lora_rank=job.lora_rank,
    )  # fmt: skip


def activation_bytes(job: Job) -> int:
    """Bytes of activations of one micro-batch on one device.

    With checkpointing each layer keeps its input, and one layer at a time is recomputed in full.
    The final norm keeps its input, normalised value and output; frozen, its input alone.
    """
    outside = job.tokens * 4 * job.shape.hidden * (3 if job.method == "full" else 1)
    if not job.checkpointing:
        return job.shape.layers * layer_bytes(job) + outside
    return inputs_bytes(job) + layer_bytes(job) + outside


def inputs_bytes(job: Job) -> int:
    """What every layer takes in: all that checkpointing keeps of the layers."""
    return job.tokens * job.shape.layers * 4 * job.shape.hidden


def logits_bytes(job: Job) -> int:
    """Scores of the supervised positions, one chunk at a time."""
    return _logits_held(job) * _width(job)


def _logits_held(job: Job) -> int:
    return min(LOGITS_CHUNK_VALUES, round(job.tokens * job.supervised) * job.shape.vocab)


def _width(job: Job) -> int:
    return 4 if job.precision == "fp32" else 2


def head_gradient_bytes(job: Job) -> int:
    """The head's gradient: the first of all, there while every activation still is."""
    if job.method == "lora":
        return 0
    return (4 if job.precision == "fp32" else 6) * job.shape.vocab * job.shape.hidden


def head_work_bytes(job: Job, *, on_cpu: bool) -> int:
    """The most that loss and head hold at once beside the activations.

    Logits, the head's input and its gradient, float32 copies of the rows being worked on (on a CPU
    two pieces, the old one being there while the next is made), and the head's gradient.
    """
    piece = 4 * min(_logits_held(job), LOGITS_CACHE_VALUES if on_cpu else LOGITS_CHUNK_VALUES)
    inputs = 2 * _width(job) * round(job.tokens * job.supervised) * job.shape.hidden
    second = piece if on_cpu else 0
    return logits_bytes(job) + inputs + piece + max(second, head_gradient_bytes(job))


def layer_work_bytes(job: Job) -> int:
    """What the backward pass of the last layer adds while all other activations are there.

    Gradients of the feed-forward network's values (two more than are given back), of the residual
    stream (two), and of the map that ends it. The head's gradient is there already.
    """
    shape = job.shape
    values = 2 * (shape.ffn * shape.experts_used + shape.hidden)
    weights = shape.ffn * shape.hidden if job.method == "full" else 0
    return head_gradient_bytes(job) + _width(job) * job.tokens * values + 4 * weights
