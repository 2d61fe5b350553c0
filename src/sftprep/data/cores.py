"""How many processor cores this process may use."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in microseconds, or "max PERIOD"


def usable_cores(quota_file: Path = QUOTA) -> int:
    """Cores that this process may run on: its affinity, and the quota of its container."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, _, period = quota_file.read_text().strip().partition(" ")
    except OSError:
        return cores
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, round(int(quota) / int(period)))
    return max(1, cores)
