"""Nothing half-written is ever read: temporary name, fsync, rename; a manifest with hashes last.

The commit of a folder is the rename of its finished temporary twin. Object stores, NFS without sync
and other network file systems are outside the promise. tests/faults/powercut.py holds the model of
what a power cut may leave, and shows that every fsync below is needed.
"""

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sftprep.errors import CorruptError, StoreError
from sftprep.files import open_plain
from sftprep.store.reading import iterate_jsonl as iterate_jsonl
from sftprep.store.reading import parse_json as parse_json
from sftprep.store.reading import read_json as read_json
from sftprep.store.reading import read_jsonl as read_jsonl
from sftprep.store.space import free_bytes as free_bytes
from sftprep.store.space import full_disk_errors as full_disk_errors
from sftprep.store.space import storage_errors as storage_errors

MANIFEST = "MANIFEST.json"
MANIFEST_VERSION = 1
TEMPORARY = ".tmp-"
HASH_THREADS = 8
_OLD = re.compile(r"\.tmp-old-(.+)-[0-9a-f]{8}")
_DAMAGED = {errno.EIO, errno.ELOOP, errno.ENOTDIR}
_NOT_OFFERED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


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
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise  # a file system that cannot sync folders is outside the promise
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Create a folder with its missing parents, durably: each new name is flushed too."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and durably.

    Raises:
        DiskFullError, StoreError: nothing under the final name has changed.
    """
    temporary = path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}"
    with storage_errors(path):
        make_folder(path.parent)
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


def append_line(path: Path, line: str) -> None:
    """Append one line of text, whole or not at all.

    What a killed writer or a full disk left of an unfinished line is cut off first, so that a torn
    line is always the last one.
    """
    data = (line + "\n").encode("utf-8")
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with storage_errors(path):
        handle = os.open(path, flags, 0o644)
        try:
            whole = _cut_torn_tail(handle)
            try:
                while data:
                    data = data[os.write(handle, data) :]
            except OSError:
                os.ftruncate(handle, whole)
                raise
        finally:
            os.close(handle)


def _cut_torn_tail(handle: int) -> int:
    """Size of the file up to its last line end; what lies behind is cut off."""
    state = os.fstat(handle)
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "a pipe or device, not a file")
    size = end = state.st_size
    if size == 0 or os.pread(handle, 1, size - 1) == b"\n":
        return size
    found = -1
    while end and found < 0:
        start = max(0, end - (1 << 16))
        found = os.pread(handle, end - start, start).rfind(b"\n")
        end = start + found + 1 if found >= 0 else start
    os.ftruncate(handle, end)
    return end


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read piece by piece; other threads run meanwhile."""
    with open_plain(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _files_below(folder: Path) -> dict[str, Path]:
    """Every file below `folder` but the manifest, by its name relative to `folder`.

    Raises:
        CorruptError: a link, device or pipe; links are never followed.
    """
    found: dict[str, Path] = {}
    waiting = [folder]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                raise CorruptError(f"{path}: links and special files are refused.")
            elif path != folder / MANIFEST:
                found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


Entry = dict[str, Any]


def seal(folder: Path, known: Mapping[str, Entry] | None = None) -> dict[str, Entry]:
    """Fsync every file below a folder: its size and sha256 by relative name.

    Hashing reads the page cache in other threads while the device writes.

    Args:
        known: entries of files that are sealed already, or hard links to such files.
    """
    known = known or {}
    files = {n: p for n, p in _files_below(folder).items() if n not in known}
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        digests = pool.map(sha256_file, files.values())
        for path in files.values():
            sync_file(path)
        sealed = {
            name: {"bytes": path.stat().st_size, "sha256": digest}
            for (name, path), digest in zip(files.items(), digests, strict=True)
        }
    return dict(sorted({**known, **sealed}.items()))


@contextmanager
def sealing(folder: Path) -> Iterator[Callable[[str], Callable[[], Entry]]]:
    """Seal large files of a folder one by one, beside the writing of the next ones.

    Yields:
        A function that begins to sync and hash a finished file, by its name in the folder. What it
        returns waits for both and gives the file's entry, for `known` of `commit_folder`.
    """

    def synced(path: Path) -> None:
        sync_file(path)

    def entry(path: Path) -> Entry:
        return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}

    with ThreadPoolExecutor(HASH_THREADS) as pool:

        def finished(name: str) -> Callable[[], Entry]:
            on_disk = pool.submit(synced, folder / name)
            hashed = pool.submit(entry, folder / name)

            def wait() -> Entry:
                on_disk.result()
                return hashed.result()

            return wait

        yield finished


def write_manifest(folder: Path, known: Mapping[str, Entry] | None = None) -> None:
    """Fsync every file below `folder`, then write MANIFEST.json with sizes and sha256.

    Args:
        known: see `seal`.
    """
    entries = seal(folder, known)
    files = [folder / name for name in entries]
    for sub in sorted({p for path in files for p in path.parents if folder in p.parents}):
        sync_folder(sub)
    write_json(folder / MANIFEST, {"version": MANIFEST_VERSION, "files": entries})


def verify_folder(folder: Path) -> None:
    """Compare every file with the manifest.

    Raises:
        CorruptError: a file is missing, truncated, changed, a link or not in the manifest; or there
            is no manifest.
        StoreError: written by another version, or not readable (permissions).
    """
    try:
        if folder.is_symlink():
            raise CorruptError(f"{folder}: links and outside paths are refused.")
        entries = _manifest(folder)
        files = _files_below(folder)
        for name, (size, _) in entries.items():
            path = folder / name
            if name not in files:
                raise CorruptError(f"{path}: missing.")
            if path.stat().st_size != size:
                raise CorruptError(f"{path}: {path.stat().st_size} bytes, expected {size}.")
        with ThreadPoolExecutor(HASH_THREADS) as pool:
            found = pool.map(sha256_file, [folder / name for name in entries])
            for name, digest in zip(entries, found, strict=True):
                if digest != entries[name][1]:
                    raise CorruptError(f"{folder / name}: content changed since it was written.")
    except OSError as error:
        kind = CorruptError if error.errno in _DAMAGED else StoreError
        raise kind(f"{folder}: cannot be read ({error.strerror or error}).") from error
    unknown = sorted(files.keys() - entries.keys())
    if unknown:
        raise CorruptError(f"{folder / unknown[0]}: not in {MANIFEST}. Remove the file.")


def _manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """(bytes, sha256) by relative name."""
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise CorruptError(f"{folder}: no {MANIFEST}: it was not written to the end.")
    manifest = read_json(path)
    try:
        version = manifest["version"]
        entries = {
            str(n): (int(e["bytes"]), str(e["sha256"])) for n, e in manifest["files"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptError(f"{path}: not a manifest ({error!r}).") from error
    if version != MANIFEST_VERSION:
        raise StoreError(f"{path}: version {version!r}, this is version {MANIFEST_VERSION}.")
    for name in entries:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise CorruptError(f"{path}: {name}: links and outside paths are refused.")
    return entries


@contextmanager
def commit_folder(
    final: Path, *, replace: bool = False, known: Mapping[str, Entry] | None = None
) -> Iterator[Path]:
    """Build a folder under a temporary name; it appears under `final` complete or not at all.

    Args:
        final: the name to appear.
        replace: exchange it with an existing `final`, which is deleted afterwards: at every moment
            one of the two has the name.
        known: manifest entries of files that will be sealed already, or links to such files.
    Raises:
        StoreError: `final` exists and `replace` is false; or the file system refuses.
    """
    if final.exists() and not replace:
        raise StoreError(f"{final}: already exists.")
    temporary = final.parent / f"{TEMPORARY}{final.name}-{secrets.token_hex(4)}"
    trash = final.parent / f"{TEMPORARY}old-{final.name}-{secrets.token_hex(4)}"
    with storage_errors(final):
        try:
            make_folder(final.parent)
            temporary.mkdir()
            yield temporary
            write_manifest(temporary, known)
            if not final.exists():
                temporary.rename(final)
            elif not exchange(temporary, final):
                final.rename(trash)
                temporary.rename(final)
            sync_folder(final.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if final.exists():
                shutil.rmtree(trash, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; false where the system or file system has no such call."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_OFFERED:
        return False
    raise OSError(code, os.strerror(code), str(one))


def remove_folder(folder: Path) -> None:
    """Delete a folder so that no reader ever sees half of it."""
    gone = folder.parent / f"{TEMPORARY}gone-{folder.name}-{secrets.token_hex(4)}"
    with storage_errors(folder):
        folder.rename(gone)
        sync_folder(folder.parent)
        shutil.rmtree(gone, ignore_errors=True)


def sweep_temporary(folder: Path) -> None:
    """Clear up after killed writers. Call only while holding the run's lock.

    A folder that was moved away and whose successor never got its name is put back.
    """
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob(f"{TEMPORARY}*")):
        old = _OLD.fullmatch(path.name)
        if old and path.is_dir() and not (path.parent / old[1]).exists():
            path.rename(path.parent / old[1])
            sync_folder(path.parent)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
