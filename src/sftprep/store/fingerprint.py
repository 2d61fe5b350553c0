"""One hash for "would doing this again give the same result?"."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sftprep.store.durable import sha256_file


def fingerprint(*parts: Any) -> str:
    """Hex sha256 over canonical JSON of the parts (16 digits are kept)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def hash_text(text: str) -> str:
    """Hex sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def hash_path(path: Path) -> str:
    """Hex sha256 of a file, or of the sorted (name, sha256) list of a folder's files."""
    if path.is_file():
        return sha256_file(path)
    names = sorted(p for p in path.rglob("*") if p.is_file())
    return fingerprint([(p.relative_to(path).as_posix(), sha256_file(p)) for p in names])
