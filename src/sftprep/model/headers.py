"""Read safetensors headers without loading weights; malformed and hostile ones are refused.

Format: 8 bytes little-endian length, JSON table of tensors, data. The rules checked here are those
of the safetensors library, plus that the data the header promises is really in the file.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from sftprep.errors import ModelError
from sftprep.files import open_plain, read_plain

MAX_HEADER_BYTES = 32 << 20  # the largest published headers are a few MB
MAX_JSON_BYTES = 128 << 20
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16,
    "BF16": 16, "I16": 16, "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8,
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Buffers that some checkpoints store beside the weights: rotary tables and causal masks.
BUFFERS = re.compile(r"(rotary_emb\.inv_freq|\.attn\.(masked_)?bias|attention\.(masked_)?bias)$")
HEADS = ("lm_head.weight", "embed_out.weight")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One stored tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Weights:
    """All tensors of a model folder. `bytes` is the size of its weight files."""

    tensors: Mapping[str, Tensor]
    bytes: int

    def parameters(self, *, tied: bool) -> int:
        """Weights without buffers; an output head stored beside tied embeddings counts once."""
        skipped = HEADS if tied else ()
        return sum(
            tensor.values
            for name, tensor in self.tensors.items()
            if name not in skipped and not _is_buffer(name, tensor)
        )

    @property
    def dtype(self) -> str:
        """The dtype that holds most values, e.g. `bfloat16`."""
        totals: dict[str, int] = {}
        for tensor in self.tensors.values():
            totals[tensor.dtype] = totals.get(tensor.dtype, 0) + tensor.values
        most = max(totals, key=lambda name: totals[name])
        return NAMES.get(most, most.lower())


def _is_buffer(name: str, tensor: Tensor) -> bool:
    if BUFFERS.search(name) is None:
        return False
    return name.endswith("inv_freq") or len(tensor.shape) in (0, 4)


def read_json_file(path: Path) -> dict[str, Any]:
    """A JSON table of a model folder.

    Raises:
        ModelError: unreadable, too large, not JSON, or not a table.
    """
    try:
        value = json.loads(read_plain(path, MAX_JSON_BYTES).decode("utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: not valid JSON ({_short(error)}). Download the model again."
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON table. Download the model again.")
    return value


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:80]}"


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file.

    Raises:
        ModelError: the header is malformed, oversized, or promises data that is not there.
    """
    try:
        size = path.stat().st_size
        with open_plain(path) as handle:
            length = int.from_bytes(handle.read(8), "little")
            if size < 8 or length > size - 8:
                raise ModelError(
                    f"{path}: truncated: the header says {length} bytes, the file has {size}. "
                    "Download the model again (a Git LFS pointer is not the file)."
                )
            if length > MAX_HEADER_BYTES:
                raise ModelError(
                    f"{path}: header of {length} bytes, at most {MAX_HEADER_BYTES} are read."
                )
            text = handle.read(length)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the header is not JSON ({_short(error)}).") from error
    if not isinstance(table, dict):
        raise ModelError(f"{path}: the header is not a table.")
    return _tensors(table, path, size - 8 - length)


def _tensors(table: Mapping[str, Any], path: Path, data_bytes: int) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    spans = []
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        tensor, start, end = _entry(name, entry, path)
        tensors[name] = tensor
        spans.append((start, end, name))
    at = 0
    for start, end, name in sorted(spans):
        if start != at:
            raise ModelError(f"{path}: tensor {name} starts at byte {start}, expected {at}.")
        at = end
    if at != data_bytes:
        raise ModelError(
            f"{path}: the header describes {at} bytes of weights, the file holds {data_bytes}. "
            "Download the model again."
        )
    if not tensors:
        raise ModelError(f"{path}: no tensors.")
    return tensors


def _entry(name: str, entry: Any, path: Path) -> tuple[Tensor, int, int]:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, start, end))
        bits = BITS[dtype] * prod(shape) if whole else -1
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: tensor {name[:80]!r}: malformed header entry.") from error
    if not whole or bits != 8 * (end - start):
        raise ModelError(
            f"{path}: tensor {name[:80]!r}: {dtype} {list(shape)[:8]} does not fill bytes "
            f"{start} to {end}."
        )
    return Tensor(dtype, shape), start, end


def read_weights(folder: Path) -> Weights | None:
    """Headers of all safetensors files of a model folder; None when it has none.

    Raises:
        ModelError: a shard is missing, outside the folder, or malformed.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():
        names = [single.name]
    elif index.is_file():
        names = _shards(index)
    else:
        return None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(names)} weight files are missing, e.g. {missing[0]}."
            " Download the model again."
        )
    tensors: dict[str, Tensor] = {}
    for name in names:
        tensors |= read_header(folder / name)
    return Weights(tensors, sum((folder / name).stat().st_size for name in names))


def _shards(index: Path) -> list[str]:
    weight_map = read_json_file(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: no weight_map. Download the model again.")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name:
            raise ModelError(f"{index}: the shard name {name[:80]!r} points outside the folder.")
    return names
