"""The pickled twin of a safetensors checkpoint, for consumers that insist on it.

sftprep writes it when asked and never reads one.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from sftprep.errors import ModelError


def write_pytorch_bin(folder: Path) -> None:
    """Write `pytorch_model.bin` beside the safetensors of a checkpoint folder.

    Raises:
        ModelError: the folder holds no safetensors.
    """
    shards = sorted(folder.glob("model*.safetensors"))
    if not shards:
        raise ModelError(f"{folder}: no model.safetensors to copy into pytorch_model.bin.")
    state: dict[str, torch.Tensor] = {}
    for shard in shards:
        state.update(load_file(shard))
    torch.save(state, folder / "pytorch_model.bin")
