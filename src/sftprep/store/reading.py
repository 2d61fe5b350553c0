"""Reading the run folder's own files: strict JSON of bounded size, and logs with a torn tail."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sftprep.errors import CorruptError, StoreError
from sftprep.files import open_plain, read_plain
from sftprep.store.space import storage_errors

MAX_JSON_BYTES = 256 << 20  # the largest of ours, a manifest of 100,000 files, has 16 MiB


def parse_json(text: str | bytes) -> Any:
    """Strict JSON of a file of ours.

    Raises:
        ValueError: not JSON, NaN or Infinity, or nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        StoreError: the file is missing, not a plain file, or larger than 256 MiB.
        CorruptError: it is not strict JSON.
    """
    try:
        return parse_json(read_plain(path, MAX_JSON_BYTES))
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file. Run the stage that writes it first.") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise CorruptError(f"{path}: not valid JSON ({error}). Delete it to redo it.") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read an append log; a torn last line is dropped, any other bad line is corruption.

    Raises:
        CorruptError: a line before the last is not a JSON object.
    """
    return list(iterate_jsonl(path))


def iterate_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of an append log, one at a time.

    Raises:
        CorruptError: a line before the last is not a JSON object, or longer than 256 MiB.
        StoreError: not a plain file.
    """
    if not path.exists():
        return
    with storage_errors(path), open_plain(path) as handle:
        for number, line in enumerate(iter(lambda: handle.readline(MAX_JSON_BYTES), b""), start=1):
            if line == b"\n":
                continue
            try:
                row = parse_json(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
            except ValueError as error:
                if not line.endswith(b"\n") and len(line) < MAX_JSON_BYTES:
                    return
                raise CorruptError(f"{path}:{number}: not valid JSON ({error}).") from error
            yield row
