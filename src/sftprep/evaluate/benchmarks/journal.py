"""Finished items of an unfinished benchmark, and the files of a finished one."""

import gzip
import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sftprep.errors import StoreError
from sftprep.records import BenchmarkResult, ItemRecord, from_dict, to_dict, to_json
from sftprep.store.durable import append_line, read_json, sync_file, write_bytes, write_json


def _seal(text: str) -> str:
    return f"{hashlib.sha256(text.encode('utf-8')).hexdigest()[:16]} {text}"


def _open(line: str) -> str | None:
    seal, _, text = line.partition(" ")
    return text if seal == hashlib.sha256(text.encode("utf-8")).hexdigest()[:16] else None


@dataclass(frozen=True, slots=True)
class Journal:
    """`NAME.items.partial.jsonl`: a key line, then one checked line per finished item.

    Lines end at the first that is torn or was changed; what comes behind is done again.
    """

    path: Path
    key: str

    def start(self) -> dict[int, ItemRecord]:
        """Items already done, by position; the file is made ready for appending.

        A journal of another key (other weights, data, protocol) is put aside as worthless.
        """
        done, kept = {}, [_seal(json.dumps({"key": self.key}))]
        for text in self._lines():
            row = json.loads(text)
            done[int(row["place"])] = from_dict(ItemRecord, row["item"])
            kept.append(_seal(text))
        write_bytes(self.path, ("\n".join(kept) + "\n").encode("utf-8"))
        return done

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        raw = self.path.read_bytes().decode("utf-8", "replace").split("\n")
        header = _open(raw[0])
        if header is None or json.loads(header).get("key") != self.key:
            return []
        found = []
        for line in raw[1:]:
            text = _open(line)
            if text is None:
                break
            found.append(text)
        return found

    def append(self, done: Iterable[tuple[int, ItemRecord]]) -> None:
        """Add finished items and flush them to the device."""
        for place, record in done:
            text = json.dumps({"place": place, "item": to_dict(record)}, allow_nan=False)
            append_line(self.path, _seal(text))
        sync_file(self.path)

    def remove(self) -> None:
        """The benchmark is finished."""
        self.path.unlink(missing_ok=True)


def write_items(path: Path, records: Iterable[ItemRecord]) -> None:
    """All items as gzipped JSONL, atomically; equal items give equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as packed:
        for record in records:
            packed.write((to_json(record) + "\n").encode("utf-8"))
    write_bytes(path, buffer.getvalue())


def write_result(path: Path, result: BenchmarkResult) -> None:
    """The result, atomically, after its items."""
    write_json(path, to_dict(result))


def read_result(path: Path, key: str) -> BenchmarkResult | None:
    """A finished result with exactly this key; None when there is none or it is of other inputs."""
    if not path.is_file():
        return None
    try:
        values = read_json(path)
        if values.get("settings", {}).get("key") != key:
            return None
        return from_dict(BenchmarkResult, values)
    except (StoreError, ValueError, AttributeError, TypeError):
        return None  # an unreadable result is done again
