"""Attention over packed documents: no token sees another document.

Registered under `sftprep_packed` through transformers' public AttentionInterface. No mask function
is registered with it, so transformers builds no dense mask. On CUDA the documents go to
`torch.nn.attention.varlen.varlen_attn`; elsewhere documents of similar length are padded on the
right and share one causal SDPA call: a causal query never looks right, so padding changes nothing.

Shapes: T tokens of all documents, H heads, K key/value heads, D head size, B documents of a bucket,
L its longest document.
"""

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

NAME = "sftprep_packed"
# Padding that one more SDPA call is worth, in query-key pairs (about 0.2 ms on one CPU core).
BUCKET_WASTE_PAIRS = 1 << 18
BUCKET_WASTE_SHARE = 0.15
# On a CPU, documents up to this length take two batched products and a softmax; torch's fused
# attention is two to five times slower forward and backward there (8 heads of 64, bf16, one AMX
# core: 11 x 91 tokens 18 against 59 ms, 4 x 256 20 against 35 ms, 2 x 512 102 against 52 ms).
LONGEST_BY_PRODUCTS = 256
CACHE_VALUES = 1 << 19
# Options of attention functions that SDPA and varlen_attn do not have.
UNSUPPORTED = ("softcap", "s_aux", "position_bias", "head_mask")


@dataclass(frozen=True, slots=True)
class Bucket:
    """`documents` of at most `longest` tokens that share an SDPA call."""

    documents: int
    longest: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where documents begin and end in a flattened batch; documents are sorted longest first.

    `gather` int64 [P]: for each padded place of all buckets, the token that stands there.
    `scatter` int64 [T]: for each token, its padded place. `cu_seqlens` int32 [documents + 1].
    """

    buckets: tuple[Bucket, ...]
    gather: Tensor
    scatter: Tensor
    cu_seqlens: Tensor
    longest: int
    padded: bool  # False when the padded places are exactly the tokens

    def to(self, device: torch.device | str) -> "Layout":
        """The same layout with its index tensors on a device."""
        pin = torch.device(device).type == "cuda"  # else the copy makes the host wait
        gather, scatter, cu_seqlens = (
            (t.pin_memory() if pin else t).to(device, non_blocking=True)
            for t in (self.gather, self.scatter, self.cu_seqlens)
        )
        return Layout(self.buckets, gather, scatter, cu_seqlens, self.longest, self.padded)


def make_layout(lengths: NDArray[np.int64]) -> Layout:
    """Group documents into buckets.

    Args:
        lengths: tokens per document, longest first.
    """
    assert bool(np.all(np.diff(lengths) <= 0)), "documents must be sorted longest first"
    buckets = _buckets(lengths.tolist())
    begins = np.cumsum(lengths) - lengths
    gathers, scatters, place, first = [], [], 0, 0
    for bucket in buckets:
        chosen = slice(first, first + bucket.documents)
        inside = np.arange(bucket.longest)
        last = lengths[chosen, None] - 1
        gathers.append((begins[chosen, None] + np.minimum(inside, last)).ravel())
        scatters.append(place + np.flatnonzero((inside <= last).ravel()))
        place += bucket.documents * bucket.longest
        first += bucket.documents
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return Layout(
        tuple(buckets),
        torch.from_numpy(np.concatenate(gathers)),
        torch.from_numpy(np.concatenate(scatters)),
        torch.from_numpy(cu_seqlens),
        int(lengths[0]),
        place != int(lengths.sum()),
    )


def _buckets(lengths: list[int]) -> list[Bucket]:
    """Greedy: a document joins while the padding stays cheaper than another call."""
    buckets: list[Bucket] = []
    longest = count = waste = useful = 0
    for length in lengths:
        extra = (longest - length) * longest
        budget = max(BUCKET_WASTE_PAIRS, BUCKET_WASTE_SHARE * useful)
        if count and waste + extra > budget:
            buckets.append(Bucket(count, longest))
            count = waste = useful = 0
        if count == 0:
            longest, extra = length, 0
        count += 1
        waste += extra
        useful += length * length
    return [*buckets, Bucket(count, longest)]


class _Take(torch.autograd.Function):
    """Rows of `x` by index; the gradient is a take too, because the reverse index is known.

    Places that `reverse` does not name (padding) have zero gradient by construction.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, reverse: Tensor, zero_rest: bool) -> Tensor:
        ctx.save_for_backward(reverse, index)
        ctx.rows, ctx.zero_rest = x.shape[0], zero_rest
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        reverse, index = ctx.saved_tensors
        if not ctx.zero_rest:
            return grads[0].index_select(0, reverse), None, None, None
        out = grads[0].new_zeros((ctx.rows, *grads[0].shape[1:]))
        out.index_copy_(0, index, grads[0])
        return out, None, None, None


def _take(x: Tensor, index: Tensor, reverse: Tensor, zero_rest: bool) -> Tensor:
    taken: Tensor = _Take.apply(x, index, reverse, zero_rest)  # type: ignore[no-untyped-call]
    return taken


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    packed: Layout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention function for transformers models.

    Args:
        query: [1, H, T, D]; key, value: [1, K, T, D]; packed: the batch's documents.
    Returns:
        [1, T, H, D], and no weights.
    Raises:
        NotSupportedError: the model needs an option this attention does not have.
    """
    asked = [name for name in UNSUPPORTED if options.get(name) is not None]
    if asked or packed is None or attention_mask is not None or query.shape[0] != 1:
        raise NotSupportedError(
            f"packed attention cannot serve this model ({asked or 'no layout'})"
        )
    q_THD, k_TKD, v_TKD = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    dtype = _compute_dtype(query)
    if query.is_cuda and dropout == 0.0 and dtype in (torch.bfloat16, torch.float16):
        # rotary embedding leaves float32 queries and keys beside 16-bit values under autocast
        q_THD, k_TKD, v_TKD = (x.to(dtype) for x in (q_THD, k_TKD, v_TKD))
        out_THD = _varlen(q_THD, k_TKD, v_TKD, packed, scaling, sliding_window)
    else:
        out_THD = _bucketed(q_THD, k_TKD, v_TKD, packed, scaling, sliding_window, dropout)
    return out_THD.unsqueeze(0), None


def _compute_dtype(query: Tensor) -> torch.dtype:
    """What autocast would make of the query."""
    device = query.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return query.dtype


class NotSupportedError(Exception):
    """This model must be fed one document per row; caught where the feeding is chosen."""


def _varlen(
    q_THD: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    packed: Layout,
    scale: float | None,
    window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    left = -1 if window is None else window - 1
    grouped: dict[str, Any] = {}
    if q_THD.shape[1] != k_TKD.shape[1]:
        if "enable_gqa" in inspect.signature(varlen_attn).parameters:  # from torch 2.12 on
            grouped = {"enable_gqa": True}
        else:
            share = q_THD.shape[1] // k_TKD.shape[1]
            k_TKD, v_TKD = (x.repeat_interleave(share, dim=1) for x in (k_TKD, v_TKD))
    out = varlen_attn(
        q_THD.contiguous(),
        k_TKD.contiguous(),
        v_TKD.contiguous(),
        packed.cu_seqlens,
        packed.cu_seqlens,
        packed.longest,
        packed.longest,
        scale=scale,
        window_size=(left, 0),
        **grouped,
    )
    assert isinstance(out, Tensor)
    return out


def _bucketed(
    q_THD: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    packed: Layout,
    scale: float | None,
    window: int | None,
    dropout: float,
) -> Tensor:
    if packed.padded:
        q_THD, k_TKD, v_TKD = (
            _take(x, packed.gather, packed.scatter, False) for x in (q_THD, k_TKD, v_TKD)
        )
    # split, not slices: its backward is one concatenation instead of a zero-filled copy per slice
    places = [bucket.documents * bucket.longest for bucket in packed.buckets]
    pieces = zip(*(torch.split(x, places) for x in (q_THD, k_TKD, v_TKD)), strict=True)
    outs = []
    for bucket, piece in zip(packed.buckets, pieces, strict=True):
        q_BHLD, k_BKLD, v_BKLD = (
            x.view(bucket.documents, bucket.longest, x.shape[1], x.shape[2]).transpose(1, 2)
            for x in piece
        )
        mask = _window_mask(bucket.longest, window, q_THD.device)
        if q_THD.is_cuda or dropout or bucket.longest > LONGEST_BY_PRODUCTS:
            out_BHLD = nn.functional.scaled_dot_product_attention(
                q_BHLD,
                k_BKLD,
                v_BKLD,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scale,
                enable_gqa=q_BHLD.shape[1] != k_BKLD.shape[1],
            )
        else:
            out_BHLD = _by_products(q_BHLD, k_BKLD, v_BKLD, mask, scale)
        outs.append(out_BHLD.transpose(1, 2).flatten(0, 1))
    out_PHD = outs[0] if len(outs) == 1 else torch.cat(outs)
    if not packed.padded:
        return out_PHD
    return _take(out_PHD, packed.scatter, packed.gather, True)


class _Products(torch.autograd.Function):
    """softmax(Q K^T * scale + bias) V for many short sequences.

    Scores and softmax are float32; the other products keep the inputs' dtype, as fused kernels do.
    A few sequences at a time, so that their scores stay in the processor's cache.
    Shapes: N sequences, R query rows (query heads of a group one below the other), L keys.
    """

    @staticmethod
    def forward(
        ctx: Any, q_NRD: Tensor, k_NLD: Tensor, v_NLD: Tensor, bias_RL: Tensor, scale: float
    ) -> Tensor:
        p_NRL = q_NRD.new_empty(len(q_NRD), *bias_RL.shape)
        out_NRD = torch.empty_like(q_NRD)
        for part in _in_cache(p_NRL):
            q, k = q_NRD[part].float(), k_NLD[part].float()
            p_NRL[part] = torch.softmax(torch.baddbmm(bias_RL, q, k.mT, alpha=scale), -1)
            torch.bmm(p_NRL[part], v_NLD[part], out=out_NRD[part])
        ctx.save_for_backward(q_NRD, k_NLD, v_NLD, p_NRL, out_NRD)
        ctx.scale = scale
        return out_NRD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_NRD, k_NLD, v_NLD, p_NRL, out_NRD = ctx.saved_tensors
        grad_NRD = grads[0].contiguous()
        delta_NR1 = (grad_NRD.float() * out_NRD.float()).sum(-1, keepdim=True)
        dq_NRD, dk_NLD, dv_NLD = (torch.empty_like(x) for x in (q_NRD, k_NLD, v_NLD))
        for part in _in_cache(p_NRL):
            grad, p = grad_NRD[part], p_NRL[part]
            torch.bmm(p.mT, grad, out=dv_NLD[part])
            ds = torch.bmm(grad, v_NLD[part].mT).sub_(delta_NR1[part]).mul_(p).mul_(ctx.scale)
            torch.bmm(ds, k_NLD[part], out=dq_NRD[part])
            torch.bmm(ds.mT, q_NRD[part], out=dk_NLD[part])
        return dq_NRD, dk_NLD, dv_NLD, None, None


def _in_cache(p_NRL: Tensor) -> Iterator[slice]:
    """Slices of sequences whose scores take about 2 MiB in float32."""
    step = max(1, CACHE_VALUES // max(1, p_NRL[0].numel()))
    for begin in range(0, len(p_NRL), step):
        yield slice(begin, begin + step)


def _by_products(
    q_BHLD: Tensor, k_BKLD: Tensor, v_BKLD: Tensor, mask_LL: Tensor | None, scale: float | None
) -> Tensor:
    """Attention of one bucket by batched matrix products; `mask_LL` None means causal."""
    documents, heads, longest, size = q_BHLD.shape
    groups = k_BKLD.shape[1]
    dtype = _compute_dtype(q_BHLD)
    if mask_LL is None:
        mask_LL = q_BHLD.new_ones(longest, longest, dtype=torch.bool).tril_()
    bias_LL = torch.zeros_like(mask_LL, dtype=torch.float32).masked_fill_(~mask_LL, -math.inf)
    rows = heads // groups * longest
    with torch.autocast(q_BHLD.device.type, enabled=False):
        q_NRD = q_BHLD.to(dtype).reshape(documents * groups, rows, size).contiguous()
        k_NLD, v_NLD = (
            x.to(dtype).reshape(documents * groups, longest, size).contiguous()
            for x in (k_BKLD, v_BKLD)
        )
        bias_RL = bias_LL.repeat(heads // groups, 1)
        out: Tensor = _Products.apply(  # type: ignore[no-untyped-call]
            q_NRD, k_NLD, v_NLD, bias_RL, size**-0.5 if scale is None else scale
        )
    return out.view(documents, heads, longest, size)


def _window_mask(longest: int, window: int | None, device: torch.device) -> Tensor | None:
    """Band of a sliding window [L, L], or None when no document is longer than the window."""
    if window is None or longest <= window:
        return None
    place = torch.arange(longest, device=device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


def unpad_index(layout: Layout) -> tuple[Tensor, ...]:
    """Per bucket, the token index of each padded place as [B, L], for one document per row."""
    out, place = [], 0
    for bucket in layout.buckets:
        count = bucket.documents * bucket.longest
        out.append(layout.gather[place : place + count].view(bucket.documents, bucket.longest))
        place += count
    return tuple(out)


def packed_attention_stays_eager() -> None:
    """Keep torch.compile out of packed attention, whose documents differ in every batch."""
    AttentionInterface.register(NAME, torch.compiler.disable(packed_attention))  # type: ignore[no-untyped-call]


def supports_packing(model: PreTrainedModel) -> bool:
    """True when the model type routes attention through the public interface without extras."""
    config = model.config.get_text_config()
    soft_capped = getattr(config, "attn_logit_softcapping", None) is not None
    return bool(getattr(model, "_supports_attention_backend", False)) and not soft_capped


def use_packed_attention(model: PreTrainedModel) -> bool:
    """Switch a model to packed attention; False (and unchanged) when it does not support it."""
    if not supports_packing(model):
        return False
    AttentionInterface.register(NAME, packed_attention)
    model.set_attn_implementation(NAME)
    return True


def uses_packed_attention(model: PreTrainedModel) -> bool:
    """True after `use_packed_attention` succeeded."""
    return getattr(model.config, "_attn_implementation", None) == NAME
