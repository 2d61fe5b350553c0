"""What the run ran on: versions and hardware, by allow-list, never the whole environment."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import sftprep

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow", "scipy")


def environment() -> dict[str, Any]:
    """Versions and hardware, read without importing any of the packages."""
    versions = {"sftprep": sftprep.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
