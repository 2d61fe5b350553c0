"""One process per run folder, by `flock`: freed by the kernel even after kill -9."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sftprep.errors import RunLockedError
from sftprep.store.durable import storage_errors


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock.

    Raises:
        RunLockedError: another process holds it; the message names its pid.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 1000).decode("utf-8", "replace").strip()
            raise RunLockedError(
                f"{folder}: another sftprep process works on this run ({holder or 'unknown'}). "
                "Wait for it, stop it, or use another output.run_dir."
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(
            handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0
        )
        yield
    finally:
        os.close(handle)
