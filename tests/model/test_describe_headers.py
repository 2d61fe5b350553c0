"""Safetensors headers: hostile and broken ones end as ModelError, quickly."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.model.conftest import write_header, write_safetensors

from sftprep.errors import ModelError
from sftprep.model.headers import MAX_HEADER_BYTES, Tensor, read_header


def entry(**changes: Any) -> bytes:
    """A header of one tensor of 4 bytes, with changes."""
    return json.dumps(
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes}
    ).encode()


def test_a_good_header_gives_dtype_and_shape(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"a": ("BF16", (2, 3)), "b": ("F32", ())})
    assert read_header(path) == {"a": Tensor("BF16", (2, 3)), "b": Tensor("F32", ())}


def test_files_of_the_safetensors_library_are_read(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    path = tmp_path / "w.safetensors"
    save_file({"a": np.zeros((3, 5), np.float16)}, path, metadata={"format": "pt"})
    assert read_header(path) == {"a": Tensor("F16", (3, 5))}


def test_a_header_longer_than_the_file_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_header(path, b"{}", length=1 << 62)
    with pytest.raises(ModelError, match="truncated"):
        read_header(path)


def test_a_git_lfs_pointer_is_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match="LFS pointer"):
        read_header(path)


def test_a_header_bomb_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with path.open("wb") as handle:
        handle.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        handle.truncate(8 + MAX_HEADER_BYTES + 1)  # a sparse file: it takes no disk
    with pytest.raises(ModelError, match="at most"):
        read_header(path)


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 200_000, b"{}"])
def test_a_header_that_is_no_table_of_tensors_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "w.safetensors"
    write_header(path, header)
    with pytest.raises(ModelError, match=r"w\.safetensors"):
        read_header(path)


@pytest.mark.parametrize(
    "header",
    [
        entry(dtype="F99"),
        entry(shape=[-1]),
        entry(shape=[2]),
        entry(shape=[1.0]),
        entry(shape="1"),
        entry(shape=[True]),
        entry(data_offsets=[4, 0]),
        entry(data_offsets=[0]),
        entry(data_offsets=[0, 8]),
        entry(shape=[1 << 62, 1 << 62]),
        b'{"w": 3}',
        b'{"w": {}}',
    ],
)
def test_a_malformed_entry_is_named(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "w.safetensors"
    write_header(path, header, bytes(4))
    with pytest.raises(ModelError, match="tensor 'w'"):
        read_header(path)


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    write_header(path, json.dumps({"a": one, "b": one}).encode(), bytes(8))
    with pytest.raises(ModelError, match="starts at byte 0, expected 4"):
        read_header(path)


@pytest.mark.parametrize("data", [bytes(3), bytes(5), b""])
def test_missing_or_spare_bytes_are_found(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "w.safetensors"
    write_header(path, entry(), data)
    with pytest.raises(ModelError, match="describes 4 bytes"):
        read_header(path)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_in_another_way(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        read_header(path)
