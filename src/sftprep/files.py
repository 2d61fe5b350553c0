"""Reading what is a file and only that: a pipe or device could keep a reader for ever."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from sftprep.errors import ModelError


def open_plain(path: Path) -> BufferedReader:
    """Open a regular file for reading, through links too.

    Raises:
        OSError: it cannot be opened, or is a folder, pipe, socket or device.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    raise OSError(errno.EINVAL, "a pipe or device, not a file", str(path))


def read_plain(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        OSError: as `open_plain`; or the file is larger.
    """
    with open_plain(path) as handle:
        content = handle.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EOVERFLOW, f"too large: at most {most:,} bytes are read", str(path))
    return content


def refuse_special(folder: Path) -> None:
    """Look through a model folder before libraries open its files.

    Raises:
        ModelError: it holds a pipe, socket or device, be it behind a link.
    """
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(place) / name
            if path.exists() and not path.is_file():
                raise ModelError(f"{path}: a pipe or device, not a file. Do not trust this folder.")
