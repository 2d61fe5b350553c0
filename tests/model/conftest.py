"""Small files that look like model folders, written byte by byte."""

import json
import struct
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest

TINY_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
# Of TINY_CONFIG: embeddings 32*8 = 256, final norm 8, and per layer attention
# 8*8 + 2*8*4 + 8*8 = 192, feed-forward 3*8*16 = 384, two norms 16 = 592.
TINY_PARAMETERS = 256 + 8 + 2 * 592


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], extra: bytes = b""
) -> None:
    """A file of zeros in the safetensors format; `extra` bytes are appended."""
    width = {"F32": 4, "BF16": 2, "F16": 2, "I64": 8}
    table: dict[str, Any] = {}
    at = 0
    for name, (dtype, shape) in tensors.items():
        end = at + width[dtype] * prod(shape)
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    write_header(path, json.dumps(table).encode(), bytes(at) + extra)


def write_header(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> None:
    """A header as given, whatever it says."""
    size = len(header) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + header + data)


def tiny_tensors() -> dict[str, tuple[str, tuple[int, ...]]]:
    """The weights of TINY_CONFIG as transformers names them."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.embed_tokens.weight": ("F32", (32, 8)),
        "model.norm.weight": ("F32", (8,)),
    }
    for layer in range(2):
        parts: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj": (8, 8),
            "self_attn.k_proj": (4, 8),
            "self_attn.v_proj": (4, 8),
            "self_attn.o_proj": (8, 8),
            "mlp.gate_proj": (16, 8),
            "mlp.up_proj": (16, 8),
            "mlp.down_proj": (8, 16),
            "input_layernorm": (8,),
            "post_attention_layernorm": (8,),
        }
        for name, shape in parts.items():
            found[f"model.layers.{layer}.{name}.weight"] = ("F32", shape)
    return found


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder; keywords change the configuration."""

    def write(name: str = "tiny", weights: bool = True, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(TINY_CONFIG | changes))
        if weights:
            write_safetensors(folder / "model.safetensors", tiny_tensors())
        return folder

    return write


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """120 instruction rows of about 100 bytes."""
    path = tmp_path / "rows.jsonl"
    lines = [
        {"instruction": f"Name the number after {i}.", "response": f"The next number is {i + 1}."}
        for i in range(120)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
