"""Rows of tokens through the model, and the log-probabilities that are asked of them.

A row may be a tree: a trunk (segment 0) that every later token sees, and branches (1, 2, ...) that
see the trunk and themselves only; position ids restart where each branch leaves the trunk. Rows may
also hang on a longer prefix that was encoded once and is kept as keys and values.

Shapes: B rows, L columns, P prefix tokens, N columns read, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from sftprep.errors import EvaluationError
from sftprep.evaluate.encode import Ids
from sftprep.evaluate.engine import Engine

MASK_ELEMENTS = 1 << 25
"""Largest dense mask of one batch (128 MiB in float32)."""
SOFTMAX_ELEMENTS = 1 << 26
"""Largest float32 copy of logits (256 MiB)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `read`: columns whose next-token scores are wanted. Target m asks for token
    `tokens[m]` at `read[slots[m]]`. `positions` count from the end of the shared prefix."""

    ids: Ids
    positions: Ids
    segments: Ids
    read: Ids
    slots: Ids
    tokens: Ids

    @property
    def is_tree(self) -> bool:
        """Whether a plain causal mask would be wrong."""
        return len(self.segments) > 0 and int(self.segments[-1]) > 1


@dataclass(frozen=True, slots=True)
class Targets:
    """Log-probability (nats, float64) of each target, and whether it was the most likely token."""

    logprobs: NDArray[np.float64]
    greedy: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of a shared prefix, per layer [1, heads, P, head size]."""

    length: int
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class PrefixCache(DynamicCache):  # type: ignore[misc]
    """Shows every row the same prefix without keeping the rows' own keys and values."""

    def __init__(self, prefix: Prefix) -> None:
        super().__init__()
        self.prefix = prefix

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Prefix and new states of one layer, [B, heads, P + L, head size]."""
        rows = key_states.shape[0]
        key = self.prefix.keys[layer_idx].expand(rows, -1, -1, -1)
        value = self.prefix.values[layer_idx].expand(rows, -1, -1, -1)
        return torch.cat([key, key_states], dim=2), torch.cat([value, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the prefix."""
        return self.prefix.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Length and offset of the keys."""
        return self.prefix.length + query_length, 0


def encode_prefix(engine: Engine, ids: Ids) -> Prefix:
    """Run a prefix once and keep its keys and values."""
    cache = DynamicCache()
    with torch.inference_mode():
        engine.model(
            input_ids=torch.from_numpy(ids.astype(np.int64))[None].to(engine.model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    keys = tuple(layer.keys for layer in cache.layers)
    return Prefix(len(ids), keys, tuple(layer.values for layer in cache.layers))


def run_rows(engine: Engine, rows: Sequence[Row], prefix: Prefix | None = None) -> list[Targets]:
    """Score one batch; when memory runs out, its halves.

    Raises:
        EvaluationError: a single row does not fit.
    """
    try:
        return _run_batch(engine, rows, prefix)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    if len(rows) == 1:
        raise EvaluationError(
            f"out of memory with a single row of {len(rows[0].ids)} tokens. Use a smaller model, "
            "fewer few-shot examples, or a device with more memory."
        )
    engine.max_tokens_per_batch = max(1, engine.max_tokens_per_batch // 2)
    free_memory()
    half = len(rows) // 2
    return run_rows(engine, rows[:half], prefix) + run_rows(engine, rows[half:], prefix)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch (CUDA or CPU allocator) reports that memory ran out."""
    text = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def free_memory() -> None:
    """Give cached blocks back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def batches(rows: Sequence[Row], budget: int, prefix_length: int = 0) -> list[list[int]]:
    """Cut rows, longest first, into batches within the token budget and the mask limit.

    Returns:
        Row numbers per batch; each row occurs once. A row above the budget is a batch of its own.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
    found: list[list[int]] = []
    for index in order:
        if found:
            longest = len(rows[found[-1][0]].ids)
            cells = (len(found[-1]) + 1) * longest
            if cells <= budget and cells * (prefix_length + longest) <= MASK_ELEMENTS:
                found[-1].append(index)
                continue
        found.append([index])
    return found


def _run_batch(engine: Engine, rows: Sequence[Row], prefix: Prefix | None) -> list[Targets]:
    with torch.inference_mode():
        if prefix is None and not any(row.is_tree for row in rows):
            offsets = [0] * len(rows)
            inputs = _plain_inputs(engine, rows)
        else:
            longest = max(len(row.ids) for row in rows)
            offsets = [longest - len(row.ids) for row in rows]
            inputs = _tree_inputs(engine, rows, offsets, prefix)
        kept = np.unique(np.concatenate([r.read + o for r, o in zip(rows, offsets, strict=True)]))
        device = engine.model.device
        logits_BKV = engine.model(
            **inputs, logits_to_keep=torch.from_numpy(kept.astype(np.int64)).to(device)
        ).logits
        return _read(logits_BKV, rows, offsets, kept)


def _plain_inputs(engine: Engine, rows: Sequence[Row]) -> dict[str, Any]:
    """Right-padded; what pads compute is never seen by a causal model and never read."""
    ids_BL = np.zeros((len(rows), max(len(row.ids) for row in rows)), np.int64)
    for index, row in enumerate(rows):
        ids_BL[index, : len(row.ids)] = row.ids
    return {"input_ids": torch.from_numpy(ids_BL).to(engine.model.device), "use_cache": False}


def _tree_inputs(
    engine: Engine, rows: Sequence[Row], offsets: Sequence[int], prefix: Prefix | None
) -> dict[str, Any]:
    """Left-padded, so that the last columns of short and long rows are read together."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    segments = np.full(shape, -1, np.int64)
    before = 0 if prefix is None else prefix.length
    for index, (row, offset) in enumerate(zip(rows, offsets, strict=True)):
        ids[index, offset:] = row.ids
        positions[index, offset:] = row.positions + before
        segments[index, offset:] = row.segments
    device = engine.model.device
    positions_BL = torch.from_numpy(positions).to(device)
    mask = tree_mask(engine, torch.from_numpy(segments).to(device), positions_BL, before)
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "position_ids": positions_BL,
        "attention_mask": mask,
        "past_key_values": None if prefix is None else PrefixCache(prefix),
        "use_cache": prefix is not None,
    }


def tree_mask(engine: Engine, segments_BL: Tensor, positions_BL: Tensor, prefix: int) -> Any:
    """Additive mask [B, 1, L, prefix + L]; pads (segment -1) see pads only, so no row is empty."""
    rows, length = segments_BL.shape
    column = torch.arange(length, device=segments_BL.device)
    seen_BLL = (segments_BL[:, None, :] == segments_BL[:, :, None]) | (segments_BL[:, None, :] == 0)
    seen_BLL &= column[None, None, :] <= column[None, :, None]
    if prefix:
        seen_BLL = torch.cat([seen_BLL.new_ones(rows, length, prefix), seen_BLL], dim=2)
    own = torch.arange(prefix, device=segments_BL.device).expand(rows, prefix)
    key_positions_BK = torch.cat([own, positions_BL], dim=1)
    return layer_masks(engine, seen_BLL, positions_BL, key_positions_BK)


def layer_masks(
    engine: Engine, seen_BLK: Tensor, positions_BL: Tensor, key_positions_BK: Tensor
) -> Any:
    """Additive mask(s) for the model: one tensor, or one per layer type when windows are mixed."""
    config = engine.model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    full = _additive(seen_BLK, engine.model.dtype)
    if not window or int(positions_BL.max()) < window:
        near = full
    else:
        near_BLK = positions_BL[:, :, None] - key_positions_BK[:, None, :] < window
        near = _additive(seen_BLK & near_BLK, engine.model.dtype)
    kinds = set(getattr(config, "layer_types", None) or ())
    if len(kinds) > 1:
        return {kind: near if kind == "sliding_attention" else full for kind in kinds}
    return full if kinds == {"full_attention"} else near


def _additive(seen_BLK: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(seen_BLK.shape, dtype=dtype, device=seen_BLK.device)
    return mask.masked_fill_(~seen_BLK, torch.finfo(dtype).min)[:, None]


def _read(
    logits_BKV: Tensor, rows: Sequence[Row], offsets: Sequence[int], kept: NDArray[Any]
) -> list[Targets]:
    """Log-softmax in float32 of the wanted columns only, and one transfer to the host."""
    row_N = np.repeat(np.arange(len(rows)), [len(row.read) for row in rows])
    columns = np.concatenate([r.read + o for r, o in zip(rows, offsets, strict=True)])
    starts = np.cumsum([0] + [len(row.read) for row in rows])
    slot_M = np.concatenate([row.slots + start for row, start in zip(rows, starts, strict=False)])
    token_M = np.concatenate([row.tokens for row in rows]).astype(np.int64)
    device = logits_BKV.device
    index_N = (_tensor(row_N, device), _tensor(np.searchsorted(kept, columns), device))
    slots, tokens = _tensor(slot_M, device), _tensor(token_M, device)
    logprobs, greedy = _gather(
        lambda a, b: logits_BKV[index_N[0][a:b], index_N[1][a:b]],
        len(row_N),
        logits_BKV.shape[-1],
        slots,
        tokens,
    )
    ends = np.cumsum([len(row.tokens) for row in rows])[:-1]
    pairs = zip(np.split(logprobs, ends), np.split(greedy, ends), strict=True)
    return [Targets(one, two) for one, two in pairs]


def _tensor(values: NDArray[Any], device: Any) -> Tensor:
    return torch.from_numpy(values.astype(np.int64)).to(device)


def _gather(
    logits_of: Callable[[int, int], Tensor],
    count: int,
    vocabulary: int,
    slots: Tensor,
    tokens: Tensor,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-probabilities of (slot, token) pairs; logits are read in float32, a piece at a time."""
    piece = max(1, SOFTMAX_ELEMENTS // vocabulary)
    logprobs = torch.zeros(len(slots), dtype=torch.float64, device=slots.device)
    greedy = torch.zeros(len(slots), dtype=torch.bool, device=slots.device)
    for start in range(0, count, piece):
        logits_NV = logits_of(start, start + piece).float()
        chosen = (slots >= start) & (slots < start + piece)
        local, wanted = slots[chosen] - start, tokens[chosen]
        total_N = torch.logsumexp(logits_NV, dim=-1)
        logprobs[chosen] = (logits_NV[local, wanted] - total_N[local]).double()
        greedy[chosen] = logits_NV.argmax(dim=-1)[local] == wanted
    return logprobs.cpu().numpy(), greedy.cpu().numpy()
