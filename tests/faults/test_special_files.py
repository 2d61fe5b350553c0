"""Pipes and devices in the place of files: refused at once, where a reader would wait for ever."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sftprep.comparison.items import read_items, read_validation_items
from sftprep.data.tokenizer import load_tokenizer
from sftprep.errors import CorruptError, SftprepError
from sftprep.files import open_plain, read_plain
from sftprep.model.describe import describe_folder
from sftprep.model.headers import read_header, read_json_file
from sftprep.recipe import load_recipe
from sftprep.recipe.sections import ModelSection
from sftprep.store.durable import read_json, read_jsonl, sha256_file

READERS: dict[str, Callable[[Path], object]] = {
    "recipe": load_recipe,
    "JSON of a run": read_json,
    "log of a run": read_jsonl,
    "items of a benchmark": read_items,
    "items of the validation": read_validation_items,
    "JSON of a model": read_json_file,
    "weights": read_header,
    "model folder": lambda path: describe_folder(path.parent, "model"),
    "tokenizer folder": lambda path: load_tokenizer(ModelSection(base=str(path.parent))),
}
pytestmark = pytest.mark.timeout(60)


def make(kind: str, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_or_device_is_refused_by_name(reader: str, kind: str, tmp_path: Path) -> None:
    path = make(kind, tmp_path)
    with pytest.raises(SftprepError, match="a pipe or device, not a file") as raised:
        READERS[reader](path)
    assert str(path) in str(raised.value)


def test_a_hash_of_a_device_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a pipe or device"):
        sha256_file(make("device", tmp_path))


def test_a_link_to_a_file_is_read_and_a_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "name").symlink_to(tmp_path / "file")
    assert read_plain(tmp_path / "name", 5) == b"12345"
    with pytest.raises(OSError, match="at most 4 bytes"):
        read_plain(tmp_path / "name", 4)
    with pytest.raises(IsADirectoryError):
        open_plain(tmp_path)


PACKED = {
    "one endless line": gzip.compress(b" " * (17 << 20)),
    "endless brackets": gzip.compress(b"[" * 100_000 + b"\n"),
    "flipped byte": gzip.compress(os.urandom(5000))[:200] + b"\xff" * 900,
}


@pytest.mark.parametrize("name", PACKED)
def test_items_that_are_a_bomb_or_damaged_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mmlu.items.jsonl.gz"
    path.write_bytes(PACKED[name])
    for read in (read_items, read_validation_items):
        with pytest.raises(CorruptError, match=r"items\.jsonl\.gz"):
            read(path)
