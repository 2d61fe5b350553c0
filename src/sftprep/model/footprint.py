"""Memory of this process as the system sees it: what is resident now, and the peak since a mark."""

import ctypes
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

STATUS = Path("/proc/self/status")
# Writing 5 sets the peak back to what is resident now (proc_pid_clear_refs(5)); needs no privilege.
CLEAR = Path("/proc/self/clear_refs")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc malloc.h
OWN_PAGES_BYTES = 1 << 20
KEPT_BYTES = 32 << 20  # the most that glibc takes for this threshold
TRIM_BYTES, NEVER_TRIMMED_BYTES = 128 << 10, (1 << 31) - 1  # glibc's own rule, and its largest


def resident_bytes() -> int | None:
    """Bytes of physical memory this process holds; None where the system does not say."""
    return _field("VmRSS")


def peak_bytes() -> int | None:
    """The most bytes this process has held since the last `reset_peak`, or since its start."""
    peak = _field("VmHWM")
    if peak is not None or sys.platform != "darwin":
        return peak
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def reset_peak() -> bool:
    """Begin a new peak; False where that is not possible and `peak_bytes` counts from the start."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def settle_allocator(environment: MutableMapping[str, str]) -> None:
    """Make memory follow what is really held: large tensors get pages of their own, huge ones.

    Call before torch is imported. The C library's heap cannot reuse most of the aligned blocks that
    a training step frees, so it grows (LoRA on a CPU: 840 MB resident where 384 MB were held, 553
    MB with this; docs/benchmarks.md). Does nothing on other systems, or where the environment
    already says how memory is allocated.
    """
    if _settled_by_user(environment):
        return
    environment.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch at its first allocation
    _set(M_MMAP_THRESHOLD, OWN_PAGES_BYTES)


def keep_freed(keep: bool) -> None:
    """Whether memory that is freed stays with this process for the next allocation.

    For training steps that hold the same tensors again and again: making their pages anew each
    time took a fifth of the processor time (docs/benchmarks.md). It costs holes in the heap, so not
    where memory is short.
    """
    if _settled_by_user(os.environ):
        return
    _set(M_MMAP_THRESHOLD, KEPT_BYTES if keep else OWN_PAGES_BYTES)
    _set(M_TRIM_THRESHOLD, NEVER_TRIMMED_BYTES if keep else TRIM_BYTES)


def _settled_by_user(environment: Mapping[str, str]) -> bool:
    return not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in environment


def _set(parameter: int, value: int) -> None:
    change = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if change is not None:
        change(parameter, value)


def release() -> None:
    """Give memory that is free but still held back to the system (glibc only)."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _field(name: str) -> int | None:
    try:
        text = STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
