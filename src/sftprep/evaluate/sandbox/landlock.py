"""Landlock: this process may read the interpreter and its libraries, and nothing else.

Kernel 5.13 or newer; newer ABIs also take TCP (4), abstract sockets and signals (6). Standard
library only: this file is loaded inside the sandbox.
Source: Linux Documentation/userspace-api/landlock.rst.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_ALL_FS_ABI1 = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BIND_AND_CONNECT_TCP = 0b11
_SCOPE_SOCKET_AND_SIGNAL = 0b11


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The kernel's Landlock ABI version; 0 when it has none or it is switched off."""
    size_zero = ctypes.c_size_t(0)
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, size_zero, _VERSION_FLAG)))


def ruleset_attribute(version: int) -> bytes:
    """`struct landlock_ruleset_attr` that handles everything ABI `version` (>= 1) knows."""
    rights = _ALL_FS_ABI1
    rights |= _REFER if version >= 2 else 0
    rights |= _TRUNCATE if version >= 3 else 0
    rights |= _IOCTL_DEV if version >= 5 else 0
    attribute = struct.pack("=Q", rights)
    if version >= 4:
        attribute += struct.pack("=Q", _BIND_AND_CONNECT_TCP)
    if version >= 6:
        attribute += struct.pack("=Q", _SCOPE_SOCKET_AND_SIGNAL)
    return attribute


def _allow(ruleset: int, path: str) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _EXECUTE | _READ_FILE
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            rights |= _READ_DIR
        rule = struct.pack("=Qi", rights, handle)
        if _libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0) != 0:
            raise OSError(ctypes.get_errno(), f"Landlock rule refused for {path}")
    finally:
        os.close(handle)


def restrict(readable: Iterable[str]) -> None:
    """Give up, for good, every file access but reading below `readable` (missing paths: skipped).

    Raises:
        OSError: the kernel refuses. `no_new_privs` must be set already.
    """
    attribute = ruleset_attribute(abi() or 1)
    ruleset = int(_libc().syscall(_CREATE_RULESET, attribute, ctypes.c_size_t(len(attribute)), 0))
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "Landlock ruleset refused")
    try:
        for path in readable:
            if os.path.exists(path):  # noqa: PTH110 (start-up time counts in milliseconds here)
                _allow(ruleset, path)
        if _libc().syscall(_RESTRICT_SELF, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "Landlock restriction refused")
    finally:
        os.close(ruleset)
