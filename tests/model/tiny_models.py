"""Small random models of several architectures, and documents for them."""

from typing import Any

import numpy as np
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from sftprep.data.render import Rendered

VOCABULARY = 500
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA = {**_COMMON, "intermediate_size": 128, "num_key_value_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "tie_word_embeddings": True},
    "mistral": {**_LLAMA, "sliding_window": 16},
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 16},
    "gemma2": {
        **_LLAMA,
        "head_dim": 16,
        "final_logit_softcapping": 1.0,
        "attn_logit_softcapping": 2.0,
    },
    "gemma3_text": {**_LLAMA, "head_dim": 16, "sliding_window": 16},
    "cohere": {**_LLAMA, "logit_scale": 0.5},
    "granite": {**_LLAMA, "logits_scaling": 3.0},
    "gpt2": {**_COMMON, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "gpt_neox": {**_COMMON, "intermediate_size": 128},
    "falcon": _COMMON,
    "bloom": _COMMON,
}


def tiny_model(kind: str, **changes: Any) -> Any:
    """A random model with weights large enough that wrong attention shows in the loss."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**MODELS[kind], **changes})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    return model.eval()


def documents(*lengths: int, seed: int = 0) -> list[Rendered]:
    """Random documents whose last two thirds are supervised."""
    random = np.random.default_rng(seed)
    return [
        Rendered(random.integers(3, VOCABULARY, n).astype(np.int32), np.arange(n) > n // 3)
        for n in lengths
    ]
