"""One process per run folder, by `flock`: freed by the kernel even after kill -9."""

import fcntl
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sftprep.errors import RunLockedError, StoreError
from sftprep.store.durable import make_folder, storage_errors

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock.

    Raises:
        RunLockedError: another process holds it; the message names its pid.
        StoreError: the folder is not writable, or its file system has no locks.
    """
    with storage_errors(folder):
        make_folder(folder)
    with storage_errors(folder / LOCK):
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(folder / LOCK, flags, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise StoreError(f"{folder / LOCK}: a pipe or device, not a file. Remove it.")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 1000).decode("utf-8", "replace").strip()
            raise RunLockedError(
                f"{folder}: another sftprep process works on this run ({holder or 'unknown'}). "
                "Wait for it, stop it, or use another output.run_dir."
            ) from error
        except OSError as error:
            raise StoreError(
                f"{folder}: this file system cannot lock files ({error.strerror}). "
                "Use an output.run_dir on a local disk."
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(
            handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0
        )
        yield
    finally:
        os.close(handle)
