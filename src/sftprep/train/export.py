"""The Hugging Face folder of a checkpoint: plain `generate` on it stops by itself."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from sftprep.data.render import turn_end_ids
from sftprep.model.loss import core_model
from sftprep.store.durable import read_json, write_json

LORA_ADAPTER = "default"


def write_model(
    folder: Path, model: Any, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype
) -> None:
    """Write config, safetensors, tokenizer with its chat template and generation settings.

    Args:
        model: a transformers model, or a PEFT model, whose adapters are merged on the way.
        dtype: precision of the written weights; the model itself stays as it is.
    """
    core = core_model(model)
    table = merged_weights(core) if core is not model else None
    if dtype != core.dtype:
        table = {
            name: weight.to(dtype) if weight.is_floating_point() else weight
            for name, weight in (table or core.state_dict()).items()
        }
    core.generation_config = generation_config(core, tokenizer)
    core.save_pretrained(folder, **({} if table is None else {"state_dict": table}))
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
    config["dtype"] = str(dtype).removeprefix("torch.")
    for key in ("_attn_implementation", "attn_implementation", "_attn_implementation_internal"):
        config.pop(key, None)
    write_json(path, config)


def merged_weights(core: PreTrainedModel) -> dict[str, Tensor]:
    """Weights of the base model with LoRA deltas added, under the base model's names."""
    deltas = {
        name: module.get_delta_weight(LORA_ADAPTER)
        for name, module in core.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    table: dict[str, Tensor] = {}
    for name, weight in core.state_dict().items():
        if ".lora_" in name:
            continue
        place, _, leaf = name.rpartition(".base_layer.")
        if not place:
            table[name] = weight
            continue
        delta = deltas.get(place)
        table[f"{place}.{leaf}"] = (
            weight + delta.to(weight.dtype) if leaf == "weight" and delta is not None else weight
        )
    return table
