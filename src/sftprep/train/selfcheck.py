"""Start-up self-check on the actual model and data, in seconds.

What it proves before anything is spent: no document sees another, the turn end is learned in every
row, and splitting a batch changes nothing.
"""

import math

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from sftprep.data.pack import Ints, PackedBatch, TokenCache, assemble
from sftprep.data.render import Rendered
from sftprep.errors import TrainingError
from sftprep.model.attention import (
    NotSupportedError,
    use_packed_attention,
    uses_packed_attention,
)
from sftprep.model.loss import core_model, pack_documents, to_device, token_nll
from sftprep.store.run import monotonic

# Largest difference of one token's NLL between packed and separate, in nats (float32; the same
# numbers added in another order differ by about 1e-6 per layer).
MAX_NLL_DIFFERENCE = 2e-3
MAX_GRADIENT_DIFFERENCE = 1e-3
MAX_DOCUMENTS = 6
MAX_TOKENS = 2048
MAX_GRADIENT_VALUES = 4_000_000
# Parameters x tokens on a CPU: all passes together take 16 operations for each, and a core does
# some 5e10 in a second, so this is about five seconds.
CPU_BUDGET = 15_000_000_000
# What a document before may change of a token's NLL, in nats: the same numbers are computed in the
# same order, so anything above the rounding of mixed experts is a leak.
MAX_LEAK = 2e-5


def packs_exactly(core: PreTrainedModel) -> bool:
    """True when the losses of a packed document do not depend on the document before it.

    The model itself is asked: layers other than attention may mix tokens (convolutions, recurrent
    states), and some attention needs more than documents (sinks) or is never told of them.
    """
    try:
        one, other = (_second_document(core, first) for first in (0, 1))
    except (NotSupportedError, RuntimeError, TypeError, ValueError):
        return False
    return bool((one - other).abs().max() <= MAX_LEAK)


@torch.no_grad()
def _second_document(core: PreTrainedModel, first: int) -> Tensor:
    """NLL of a document of eight tokens packed after eight tokens `first`."""
    ids = np.arange(8, dtype=np.int32) % core.get_input_embeddings().weight.shape[0]
    before = Rendered(np.full(8, first, np.int32), np.zeros(8, bool))
    batch = pack_documents([before, Rendered(ids, np.arange(8) > 0)])
    return token_nll(core, to_device(batch, core.device))


def own_attention(core: PreTrainedModel) -> None:
    """Switch a model back to the attention it came with."""
    core.set_attn_implementation("sdpa" if core._supports_sdpa else "eager")


def self_check(model: PreTrainedModel, cache: TokenCache, turn_ends: tuple[int, ...]) -> str:
    """Run all checks in float32 without dropout.

    Returns:
        One line saying what was found.
    Raises:
        TrainingError: a check failed; the message says which and by how much.
    """
    check_turn_ends(cache, turn_ends)
    begin = monotonic()
    documents = choose_documents(cache, room_for(model))
    mode = model.training
    model.eval()
    try:
        nll = check_packing(model, cache, documents)
        gradient = check_accumulation(model, cache, documents)
    finally:
        model.train(mode)
        model.zero_grad(set_to_none=True)
    return (
        f"self-check passed on {len(documents)} documents: packed = separate within {nll:.1e}, "
        f"split = whole batch within {gradient:.1e}, turn end learned in {len(cache)} of "
        f"{len(cache)} rows, in {monotonic() - begin:.1f} s"
    )


def room_for(model: PreTrainedModel) -> int:
    """Tokens that the checks of this model get through in seconds."""
    if model.device.type != "cpu":
        return MAX_TOKENS
    return min(MAX_TOKENS, CPU_BUDGET // int(model.num_parameters()))


def choose_documents(cache: TokenCache, room: int = MAX_TOKENS) -> Ints:
    """A few documents of different lengths, at least two, short enough to be quick."""
    order = np.argsort(cache.lengths, kind="stable")
    picks = order[np.linspace(0, len(order) - 1, MAX_DOCUMENTS).astype(int)]
    chosen: list[int] = []
    for document in dict.fromkeys(picks.tolist()):
        if len(chosen) < 2 or cache.lengths[document] <= room:
            chosen.append(document)
            room -= int(cache.lengths[document])
    return np.array(chosen, np.int64)


def check_turn_ends(cache: TokenCache, turn_ends: tuple[int, ...]) -> None:
    """Every row's last supervised token ends a turn.

    Raises:
        TrainingError: names the first row that never teaches the model to stop.
    """
    ids, supervised = np.asarray(cache.ids), np.asarray(cache.supervised)
    places = np.flatnonzero(supervised)
    last = np.searchsorted(places, cache.starts[1:]) - 1
    inside = (last >= 0) & (places[last] >= cache.starts[:-1])
    good = inside & np.isin(ids[places[last]], turn_ends)
    if bool(good.all()):
        return
    row = cache.names[int(np.flatnonzero(~good)[0])]
    raise TrainingError(
        f"self-check: {int((~good).sum())} rows do not end in a supervised end-of-turn token, e.g. "
        f"row {row}: the model would not learn to stop. Check model.chat_template."
    )


@torch.no_grad()
def check_packing(model: PreTrainedModel, cache: TokenCache, documents: Ints) -> float:
    """Packed NLL against one plain forward per document; the largest difference in nats."""
    batch = assemble(cache, documents)
    packed = token_nll(model, to_device(batch, model.device))
    alone = separate_nll(model, batch)
    difference = float((packed - alone).abs().max())
    if difference <= MAX_NLL_DIFFERENCE:
        return difference
    raise TrainingError(
        f"self-check: documents of one batch give other losses than alone (off by "
        f"{difference:.3g} nats). {type(model).__name__} cannot be trained here; please report the "
        "model type."
    )


def separate_nll(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """NLL by the model's own attention and head, one document at a time, in the batch's order."""
    core = core_model(model)
    packed = uses_packed_attention(core)
    if packed:
        own_attention(core)
    supervised = np.zeros(batch.tokens, bool)
    supervised[batch.predict + 1] = True
    parts, begin = [], 0
    try:
        for length in batch.lengths.tolist():
            ids = torch.from_numpy(batch.ids[begin : begin + length]).to(core.device)
            logits = core(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
            nll = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
            keep = torch.from_numpy(supervised[begin + 1 : begin + length]).to(core.device)
            parts.append(nll[keep])
            begin += length
    finally:
        if packed:
            use_packed_attention(core)
    return torch.cat(parts)


def check_accumulation(model: PreTrainedModel, cache: TokenCache, documents: Ints) -> float:
    """Gradient of one batch against the sum over its documents; relative difference of norms."""
    weights = [p for p in model.parameters() if p.requires_grad]
    small = sorted(weights, key=lambda p: p.numel())
    sizes = np.cumsum([p.numel() for p in small])
    chosen = small[: max(1, int(np.searchsorted(sizes, MAX_GRADIENT_VALUES)))]
    tokens = assemble(cache, documents).supervised
    whole = _gradient(model, cache, documents, tokens, chosen)
    parts = [torch.zeros_like(g) for g in whole]
    for document in documents:
        for total, part in zip(
            parts, _gradient(model, cache, np.array([document]), tokens, chosen), strict=True
        ):
            total += part
    norm = _norm(whole)
    if not math.isfinite(norm):
        rows = ", ".join(cache.names[d] for d in documents.tolist())
        raise TrainingError(
            f"self-check: the gradient of rows {rows} is {norm} before any training. Look at these "
            "rows and at the base model's weights."
        )
    difference = _norm([a - b for a, b in zip(whole, parts, strict=True)]) / max(norm, 1e-12)
    if difference <= MAX_GRADIENT_DIFFERENCE:
        return difference
    raise TrainingError(
        f"self-check: a batch and its parts give different gradients (relative {difference:.3g}). "
        f"{type(model).__name__} couples the rows of a batch; please report the model type."
    )


def _gradient(
    model: PreTrainedModel, cache: TokenCache, documents: Ints, tokens: int, weights: list[Tensor]
) -> list[Tensor]:
    batch = to_device(assemble(cache, documents), model.device)
    loss = token_nll(model, batch).sum() / tokens
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)]


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([t.double().norm() for t in tensors]).norm())
