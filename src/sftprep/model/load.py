"""Load a causal language model: safetensors first, every weight finite, nothing left random."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from sftprep.errors import MissingDependencyError, ModelError, TrainingError

SAFE_FILES = ("model.safetensors", "model.safetensors.index.json")


def pick_device() -> str:
    """`cuda` when a GPU is usable, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(
    ref: str,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
    four_bit: bool = False,
) -> PreTrainedModel:
    """Read a model in eval mode onto a device.

    Args:
        ref: folder or hub id; a folder is read without the network.
        dtype: dtype of all floating-point weights.
        four_bit: keep the linear layers in NF4 (Dettmers et al. 2023, QLoRA), for adapters only.
    Raises:
        MissingDependencyError: `four_bit` without bitsandbytes.
        ModelError: not readable, weights missing or of the wrong shape, NaN or Inf in a weight.
        TrainingError: it does not fit into memory.
    """
    transformers_logging.disable_progress_bar()
    options = _four_bit(device) if four_bit else {}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            ref,
            revision=revision,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            local_files_only=Path(ref).is_dir(),
            use_safetensors=_safe(ref),
            output_loading_info=True,
            **options,
        )
        if not four_bit:
            model = model.to(device)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"{ref}: not enough memory to load it in {dtype} on {device}. "
            "Use a smaller model, bf16, or a larger machine."
        ) from error
    except Exception as error:  # transformers and torch raise anything on a hostile folder
        raise ModelError(f"{ref}: the model cannot be loaded: {_short(error)}") from error
    _check_complete(ref, report)
    check_finite(model, ref)
    model.eval()
    return model


def _four_bit(device: str) -> dict[str, Any]:
    """Options of transformers for 4-bit weights."""
    try:
        import bitsandbytes  # noqa: F401
        from transformers import BitsAndBytesConfig
    except ImportError as error:
        raise MissingDependencyError(
            "training.lora_base_4bit needs the package bitsandbytes. "
            "Run: pip install 'sftprep[quantized]'"
        ) from error
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def _safe(ref: str) -> bool:
    """Safetensors whenever the folder has them; a hub model must."""
    folder = Path(ref)
    if not folder.is_dir():
        if ref.startswith(("/", "./", "../", "~")):
            raise ModelError(f"{ref}: no such folder. Correct model.base.")
        return True
    if any((folder / name).is_file() for name in SAFE_FILES):
        return True
    if any(folder.glob("pytorch_model*.bin")):
        return False  # transformers reads it with weights_only=True
    if not (folder / "config.json").is_file():
        raise ModelError(f"{ref}: no config.json. Give a Hugging Face model folder.")
    raise ModelError(f"{ref}: no model.safetensors. Give a folder that holds the weights.")


def _short(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _check_complete(ref: str, report: Any) -> None:
    missing = sorted(report.get("missing_keys") or ())
    if missing:
        raise ModelError(
            f"{ref}: {len(missing)} weights are not in the file and would be random, e.g. "
            f"{missing[0]}. The folder's config.json and weights do not belong together."
        )
    wrong = list(report.get("mismatched_keys") or ())
    if wrong:
        raise ModelError(
            f"{ref}: {len(wrong)} weights differ in shape from config.json, e.g. {wrong[0]}."
        )


def fit_vocabulary(model: PreTrainedModel, tokenizer: Any, ref: str) -> int:
    """Give tokens that were added to a tokenizer a row each: the mean of the model's own.

    Every process must end with the same rows, so nothing is drawn at random.

    Returns:
        Number of rows added.
    Raises:
        ModelError: the tokenizer is another model's: more than added tokens would have no row.
    """
    rows: int = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"{ref}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {rows}. "
            "Set model.tokenizer to the model's own."
        )
    added = int(max(tokenizer.get_vocab().values())) + 1 - rows
    if added <= 0:
        return 0
    model.resize_token_embeddings(rows + added, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        for values in layer.parameters():
            values.data[rows:] = values.data[:rows].mean(0)
    return added


def check_finite(model: nn.Module, ref: str) -> None:
    """Refuse NaN and Inf in any weight.

    Raises:
        ModelError: names the first bad weight and how many values are not finite.
    """
    for name, weight in model.named_parameters():
        # One pass without a boolean copy: a sum is finite only if every term is (no term of a
        # sane weight overflows float32); the exact count is taken only on suspicion.
        if not weight.is_floating_point() or bool(torch.isfinite(weight.detach().float().sum())):
            continue  # integers hold quantised weights
        bad = int((~torch.isfinite(weight)).sum())
        if bad:
            raise ModelError(
                f"{ref}: {bad} of {weight.numel()} values of {name} are NaN or Inf. "
                "Download the model again or use another checkpoint."
            )
