"""Nothing half-written is ever read: temporary name, fsync, rename; a manifest with hashes last.

The commit of a folder is the rename of its finished temporary twin. Object stores, NFS without sync
and other network file systems are outside the promise.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sftprep.errors import CorruptError, DiskFullError, StoreError

MANIFEST = "MANIFEST.json"
MANIFEST_VERSION = 1
TEMPORARY = ".tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn operating-system and library write failures into errors a user can act on.

    torch and safetensors report a full disk as their own exception types, so the free space is
    looked up instead of trusting the type.

    Raises:
        DiskFullError: no space left, or a quota or file-size limit is reached.
        StoreError: any other failure of the file system, e.g. permission denied.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(_full_message(path)) from error
        raise StoreError(
            f"{path}: {error.strerror or error}. Check the path and its permissions."
        ) from error
    except (RuntimeError, ValueError) as error:
        if _no_space(path):
            raise DiskFullError(_full_message(path)) from error
        raise
    except Exception as error:
        if is_full(error, path):
            raise DiskFullError(_full_message(path)) from error
        raise


@contextmanager
def full_disk_errors(path: Path) -> Iterator[None]:
    """Name a full disk as such wherever a library met it; every other error passes unchanged.

    Raises:
        DiskFullError: no space left, or a quota or file-size limit is reached.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if is_full(error, path):
            raise DiskFullError(_full_message(path)) from error
        raise


def is_full(error: Exception, path: Path) -> bool:
    """True when an operating-system or library error means that nothing more can be written."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    named = re.search(r"os error (\d+)", str(error))
    if named and int(named[1]) in _FULL:
        return True
    library = isinstance(error, RuntimeError) or type(error).__name__ == "SafetensorError"
    return library and _no_space(path)


def _full_message(path: Path) -> str:
    return (
        f"{path}: no space left on the device (or quota reached). Free some space and run the same "
        "command again: finished work is kept and will be continued."
    )


def _existing_parent(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _no_space(path: Path) -> bool:
    try:
        state = os.statvfs(_existing_parent(path))
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < 1 << 20


def free_bytes(path: Path) -> int:
    """Bytes that an ordinary user may still write below `path`."""
    state = os.statvfs(_existing_parent(path))
    return int(state.f_bavail * state.f_frsize)


def sync_file(path: Path) -> None:
    """Flush a written file to the device."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the device (a rename is durable only after this)."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and durably.

    Raises:
        DiskFullError, StoreError: nothing under the final name has changed.
    """
    temporary = path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically and durably."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN) atomically and durably."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        StoreError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file. Run the stage that writes it first.") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise CorruptError(f"{path}: not valid JSON ({error}). Delete it to redo it.") from error


def append_line(path: Path, line: str) -> None:
    """Append one line of text with a single write, so a torn line can only be the last."""
    with storage_errors(path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, (line + "\n").encode("utf-8"))
        finally:
            os.close(handle)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read an append log; a torn last line is dropped, any other bad line is corruption.

    Raises:
        CorruptError: a line before the last is not a JSON object.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise CorruptError(f"{path}:{number}: not valid JSON ({error}).") from error
        rows.append(row)
    return rows


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _files_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)


def write_manifest(folder: Path) -> None:
    """Fsync every file below `folder`, then write MANIFEST.json with sizes and sha256."""
    files = {}
    for path in _files_below(folder):
        sync_file(path)
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    for sub in sorted({p.parent for p in _files_below(folder)}):
        sync_folder(sub)
    write_json(folder / MANIFEST, {"version": MANIFEST_VERSION, "files": files})


def verify_folder(folder: Path) -> None:
    """Compare every file with the manifest.

    Raises:
        CorruptError: a file is missing, truncated, changed or a link; or there is no manifest.
    """
    if not (folder / MANIFEST).is_file():
        raise CorruptError(f"{folder}: no {MANIFEST}: it was not written to the end.")
    manifest = read_json(folder / MANIFEST)
    try:
        entries = {
            str(n): (int(e["bytes"]), str(e["sha256"])) for n, e in manifest["files"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptError(f"{folder / MANIFEST}: not a manifest ({error!r}).") from error
    for name, (size, digest) in entries.items():
        path = folder / name
        if path.is_symlink() or ".." in Path(name).parts or Path(name).is_absolute():
            raise CorruptError(f"{path}: links and outside paths are refused.")
        if not path.is_file():
            raise CorruptError(f"{path}: missing.")
        if path.stat().st_size != size:
            raise CorruptError(f"{path}: {path.stat().st_size} bytes, expected {size}.")
        if sha256_file(path) != digest:
            raise CorruptError(f"{path}: content changed since it was written.")


@contextmanager
def commit_folder(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """Build a folder under a temporary name; it appears under `final` complete or not at all.

    Args:
        final: the name to appear.
        replace: move an existing `final` away first and delete it afterwards.
    Raises:
        StoreError: `final` exists and `replace` is false; or the file system refuses.
    """
    if final.exists() and not replace:
        raise StoreError(f"{final}: already exists.")
    temporary = final.parent / f"{TEMPORARY}{final.name}-{secrets.token_hex(4)}"
    trash = final.parent / f"{TEMPORARY}old-{final.name}-{secrets.token_hex(4)}"
    with storage_errors(final):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            write_manifest(temporary)
            sync_folder(temporary)
            if final.exists():
                final.rename(trash)
            temporary.rename(final)
            sync_folder(final.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(trash, ignore_errors=True)


def sweep_temporary(folder: Path) -> None:
    """Delete leftovers of killed writers. Call only while holding the run's lock."""
    if not folder.is_dir():
        return
    for path in folder.rglob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
