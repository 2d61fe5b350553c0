"""The output head and its cross-entropy as one operation.

Logits are kept in the compute dtype and turned into probabilities in float32, a few rows at a time,
so that the float32 values never leave the processor's cache: a third of the time and a quarter of
the memory of head, cast, log-softmax and their backward one after another.

Shapes: S supervised tokens, C hidden size, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Logits held at once: 2**26 values are 128 MiB in 16 bits. More rows are recomputed in backward,
# which costs one more head product.
CHUNK_VALUES = 1 << 26
# Float32 values worked on at once on a CPU (4 MiB).
CACHE_VALUES = 1 << 20


class HeadNll(torch.autograd.Function):
    """NLL float32 [S] of labels under `hidden @ weight.T + bias`, scaled and soft-capped.

    `cap(x) = tanh(x / cap) * cap` after `x * scale`; a cap of None is none. Gradients flow to
    hidden states, weight and bias.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_SC: Tensor,
        weight_VC: Tensor,
        bias_V: Tensor | None,
        labels_S: Tensor,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        device = hidden_SC.device.type
        dtype = hidden_SC.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            hidden, weight = hidden_SC.to(dtype), weight_VC.to(dtype)
            bias = None if bias_V is None else bias_V.to(dtype)
            lse_S = hidden.new_empty(len(labels_S), dtype=torch.float32)
            nll_S = torch.empty_like(lse_S)
            chunks = list(_pieces(len(labels_S), CHUNK_VALUES // weight.shape[0]))
            # float32 logits can become their own probabilities, which is half of the backward pass
            done = len(chunks) == 1 and hidden.dtype == torch.float32 and cap is None
            for chunk in chunks:
                logits = torch.nn.functional.linear(hidden[chunk], weight, bias)
                _forward_rows(logits, labels_S[chunk], lse_S[chunk], nll_S[chunk], scale, cap, done)
        kept = logits if len(chunks) == 1 else None
        ctx.save_for_backward(hidden, weight, bias, labels_S, lse_S, kept)
        ctx.rules, ctx.chunks, ctx.done = (scale, cap), chunks, done
        ctx.dtypes = (hidden_SC.dtype, weight_VC.dtype)
        ctx.spent = False
        return nll_S

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        assert not ctx.spent, "the logits were overwritten by the first backward"
        ctx.spent = True
        hidden, weight, bias, labels_S, lse_S, kept = ctx.saved_tensors
        scale, cap = ctx.rules
        to_hidden, to_weight, to_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.empty_like(hidden) if to_hidden else None
        d_weight = d_bias = None
        for chunk in ctx.chunks:
            logits = (
                torch.nn.functional.linear(hidden[chunk], weight, bias) if kept is None else kept
            )
            _backward_rows(
                logits, labels_S[chunk], lse_S[chunk], grads[0][chunk], scale, cap, ctx.done
            )
            if d_hidden is not None:
                torch.mm(logits, weight, out=d_hidden[chunk])
            if to_weight:
                part = (logits.t() @ hidden[chunk]).to(ctx.dtypes[1])
                d_weight = part if d_weight is None else d_weight.add_(part)
            if to_bias:
                column = logits.sum(0, dtype=torch.float32).to(ctx.dtypes[1])
                d_bias = column if d_bias is None else d_bias.add_(column)
        d_hidden = None if d_hidden is None else d_hidden.to(ctx.dtypes[0])
        return d_hidden, d_weight, d_bias, None, None, None


def _pieces(count: int, rows: int) -> Iterator[slice]:
    """Slices of at most `rows` that cover range(count); one empty slice for none."""
    rows = max(1, rows)
    for begin in range(0, max(count, 1), rows):
        yield slice(begin, min(begin + rows, count))


def _cached_rows(logits: Tensor) -> Iterator[slice]:
    rows = len(logits) if logits.is_cuda else CACHE_VALUES // logits.shape[1]
    return _pieces(len(logits), rows)


def _rules(x: Tensor, scale: float, cap: float | None) -> Tensor:
    """Scale and soft cap of float32 logits, in place."""
    if scale != 1.0:
        x.mul_(scale)
    return x if cap is None else x.div_(cap).tanh_().mul_(cap)


def _forward_rows(
    logits_SV: Tensor,
    labels_S: Tensor,
    lse_S: Tensor,
    nll_S: Tensor,
    scale: float,
    cap: float | None,
    done: bool,
) -> None:
    """Fill the log of the partition sum and the NLL; `done` turns logits into probabilities."""
    for rows in _cached_rows(logits_SV):
        x = logits_SV[rows] if done else logits_SV[rows].to(torch.float32, copy=True)
        x = _rules(x, scale, cap)
        target = x.gather(1, labels_S[rows, None])[:, 0]
        top = x.amax(1)
        total = x.sub_(top[:, None]).exp_().sum(1)
        if done:
            x.div_(total[:, None])
        lse_S[rows] = total.log_().add_(top)
        nll_S[rows] = lse_S[rows] - target


def _backward_rows(
    logits_SV: Tensor,
    labels_S: Tensor,
    lse_S: Tensor,
    grad_S: Tensor,
    scale: float,
    cap: float | None,
    done: bool,
) -> None:
    """Turn logits into their gradient, in place: grad * (softmax - one-hot), then the rules.

    Args:
        done: they are probabilities already.
    """
    for rows in _cached_rows(logits_SV):
        slope = None
        if done:
            x = logits_SV[rows]
        else:
            x = _rules(logits_SV[rows].to(torch.float32, copy=True), scale, cap)
            slope = None if cap is None else 1 - (x / cap).square_()
            x.sub_(lse_S[rows, None]).exp_()
        x.mul_(grad_S[rows, None])
        x.scatter_add_(1, labels_S[rows, None], -grad_S[rows, None])
        if slope is not None:
            x.mul_(slope)
        if scale != 1.0:
            x.mul_(scale)
        if not done:
            logits_SV[rows] = x
