"""The Hugging Face folder of a checkpoint: plain `generate` on it stops by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from sftprep.data.render import turn_end_ids
from sftprep.model.loss import core_model
from sftprep.store.durable import read_json, write_json

LORA_ADAPTER = "default"


def write_model(
    folder: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    weights: Mapping[str, Tensor],
) -> None:
    """Write config, safetensors, tokenizer with its chat template and generation settings.

    Args:
        model: a transformers model, or a PEFT model; only its settings are read.
        dtype: precision of the written weights; `weights` themselves stay as they are.
    """
    core = core_model(model)
    table: dict[int, Tensor] = {}
    for weight in weights.values():
        if id(weight) not in table:
            table[id(weight)] = weight.to(dtype) if weight.is_floating_point() else weight
    core.generation_config = generation_config(core, tokenizer)
    named = {name: table[id(weight)] for name, weight in weights.items()}
    if getattr(core, "is_quantized", False):  # transformers would look for quantised weights
        for name in core._tied_weights_keys or ():
            if core.config.tie_word_embeddings:
                named.pop(name, None)
        core.config.save_pretrained(folder)
        core.generation_config.save_pretrained(folder)
        save_torch_state_dict(named, folder)
    else:
        core.save_pretrained(folder, state_dict=named)
    tokenizer.save_pretrained(folder)
    _fix_config(folder / "config.json", dtype)


def generation_config(model: PreTrainedModel, tokenizer: Any) -> GenerationConfig:
    """Stop at the template's turn end or EOS; greedy unless asked otherwise."""
    ends = turn_end_ids(tokenizer)
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else list(ends),
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )


def _fix_config(path: Path, dtype: torch.dtype) -> None:
    """Name the dtype of the written weights, and no attention of ours."""
    config = read_json(path)
    config.pop("quantization_config", None)  # exported weights are never quantised
    config["dtype"] = str(dtype).removeprefix("torch.")
    for key in ("_attn_implementation", "attn_implementation", "_attn_implementation_internal"):
        config.pop(key, None)
    write_json(path, config)


def merged_weights(core: PreTrainedModel) -> dict[str, Tensor]:
    """Weights of the base model with LoRA deltas added, under the base model's names."""
    adapted: dict[str, Any] = {}
    for place, module in core.named_modules():
        if hasattr(module, "get_delta_weight"):  # a linear layer, or one parameter of the experts
            adapted[_plain(f"{place}.{getattr(module, 'parameter_name', 'weight')}")] = module
    table: dict[str, Tensor] = {}
    for name, weight in core.state_dict().items():
        quantised_state = ".base_layer.weight." in name
        if ".lora_" in name or quantised_state:
            continue
        plain = _plain(name)
        table[plain] = _merged(adapted[plain]) if plain in adapted else weight
    return table


def _plain(name: str) -> str:
    """A weight's name without the wrappers that PEFT puts around its layer."""
    return name.replace(".base_layer", "")


@torch.no_grad()
def _merged(layer: Any) -> Tensor:
    """One adapted layer's weight; DoRA rescales each output's row (Liu et al. 2024, eq. 5)."""
    if hasattr(layer, "get_param"):
        experts: Tensor = layer.get_param() + layer.get_delta_weight(LORA_ADAPTER)
        return experts
    weight = layer.base_layer.weight
    if hasattr(weight, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight.data, weight.quant_state).float()
    delta: Tensor = layer.get_delta_weight(LORA_ADAPTER).to(weight.dtype)
    merged: Tensor = weight + delta
    if LORA_ADAPTER not in getattr(layer, "lora_magnitude_vector", {}):
        return merged
    size: Tensor = layer.lora_magnitude_vector[LORA_ADAPTER].weight
    rows = merged.mT if layer.fan_in_fan_out else merged
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    scaled: Tensor = size[:, None].to(rows.dtype) * rows / norms
    return scaled.mT.contiguous() if layer.fan_in_fan_out else scaled
