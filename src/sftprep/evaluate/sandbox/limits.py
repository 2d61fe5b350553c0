"""What one process of the sandbox may use, who it is, and what it has loaded beforehand.

Standard library only: this file is loaded inside the sandbox.
"""

import ctypes
import errno
import importlib
import os
import resource
import struct
from collections.abc import Iterable

MEMORY_BYTES = 512 << 20
STACK_BYTES = 64 << 20
FILE_BYTES = 1 << 20
OPEN_FILES = 64
NOBODY = 65534
MESSAGE_BYTES = 1 << 20
"""Largest message between the two processes."""

_PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE, _PR_SET_PDEATHSIG = 38, 4, 1
_SIGKILL = 9
_CAPABILITY_VERSION_3 = 0x20080522

# A root user's sandbox drops to nobody, for whom an interpreter in a private home folder is
# unreadable from then on: what a solution is likely to import is imported before.
PRELOADED = frozenset({
    "abc", "array", "ast", "base64", "binascii", "bisect", "calendar", "cmath", "collections",
    "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "enum",
    "fractions", "functools", "hashlib", "heapq", "inspect", "io", "itertools", "json", "keyword",
    "logging", "math", "numbers", "operator", "os", "pprint", "queue", "random", "re", "select",
    "secrets", "shutil", "signal", "socket", "statistics", "string", "struct", "subprocess", "sys",
    "tempfile", "textwrap", "threading", "time", "traceback", "types", "typing", "unicodedata",
    "uuid", "warnings", "zlib",
})  # fmt: skip
ALSO = {"datetime": "_strptime", "time": "_strptime"}
"""Loaded by the library itself at first use."""


def preload(names: Iterable[str]) -> None:
    """Import those of `names` that are in PRELOADED (all of the standard library)."""
    for name in PRELOADED.intersection(names):
        importlib.import_module(name)
        if name in ALSO:
            importlib.import_module(ALSO[name])


def limit_resources(cpu_seconds: int) -> None:
    """Cap memory, CPU time, stack, file size and open files; no core dumps."""
    caps = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_STACK: STACK_BYTES,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, cap in caps.items():
        hard = resource.getrlimit(kind)[1]
        value = cap if hard == resource.RLIM_INFINITY else min(cap, hard)
        resource.setrlimit(kind, (value, value))


def lock_privileges() -> None:
    """No privileges from now on, no debugger, and the end of the parent is the end of this.

    Raises:
        OSError: the kernel refuses.
    """
    library = ctypes.CDLL(None, use_errno=True)
    for option, value in (
        (_PR_SET_NO_NEW_PRIVS, 1),
        (_PR_SET_DUMPABLE, 0),
        (_PR_SET_PDEATHSIG, _SIGKILL),
    ):
        if library.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}) refused")


def leave_root() -> None:
    """Become nobody when running as root, and give up all capabilities in any case.

    In a user namespace or a container without CAP_SETUID there is no nobody to become: root without
    capabilities is then no more than the user who started it.

    Raises:
        OSError: the capabilities cannot be given up.
    """
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
    drop_capabilities()


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets.

    Raises:
        OSError: the kernel refuses.
    """
    library = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if library.capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be given up")
