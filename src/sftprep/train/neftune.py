"""NEFTune: noise on the input embeddings while training (Jain et al. 2023, arXiv 2310.05914)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def add_noise(core: PreTrainedModel, alpha: float) -> None:
    """Add uniform noise of size alpha / sqrt(L * C) to every embedding in training mode.

    L is the length of the document, also when documents are packed: the model's forward is told
    the packed layout, and rows without one count as a document each. C is the embedding size.
    """
    lengths: list[Tensor | None] = [None]

    def remember(module: nn.Module, args: Any, options: dict[str, Any]) -> None:
        layout = options.get("packed")
        lengths[0] = None if layout is None else layout.cu_seqlens.diff().long()

    def noisy(module: nn.Module, args: Any, out_BTC: Tensor) -> Tensor | None:
        if not module.training:
            return None
        return out_BTC + alpha * noise(out_BTC, lengths[0])

    decoder = core.get_decoder() if hasattr(core, "get_decoder") else core.base_model
    decoder.register_forward_pre_hook(remember, with_kwargs=True)
    core.get_input_embeddings().register_forward_hook(noisy)


def noise(embedded_BTC: Tensor, lengths: Tensor | None) -> Tensor:
    """Uniform in (-1, 1) / sqrt(L * C), L per document (`lengths`) or per row (None)."""
    uniform = torch.rand_like(embedded_BTC) * 2 - 1
    size = embedded_BTC.shape[-1]
    if lengths is None:
        return uniform / math.sqrt(embedded_BTC.shape[1] * size)
    # the size is known: asking the device for it would make the host wait
    length_T = lengths.repeat_interleave(lengths, output_size=embedded_BTC.shape[-2])
    length_T1 = length_T[:, None].to(embedded_BTC.dtype)
    scaled: Tensor = uniform / (length_T1 * size).sqrt()
    return scaled
