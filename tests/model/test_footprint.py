"""Resident memory of this process, its peak, and the allocator's setting."""

import os
import subprocess
import sys

import pytest

from sftprep.model.footprint import peak_bytes, reset_peak, resident_bytes, settle_allocator

MIB = 1 << 20
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux
def test_the_peak_remembers_what_was_held_and_forgets_it_when_told() -> None:
    assert reset_peak() is True
    before = resident_bytes()
    assert before is not None
    block = bytearray(os.urandom(1)) * (200 * MIB)
    del block
    peak = peak_bytes()
    assert peak is not None
    assert peak - before > 190 * MIB
    reset_peak()
    after = peak_bytes()
    assert after is not None
    assert after - before < 100 * MIB


HOLES = """
import os, sys
from sftprep.model.footprint import resident_bytes, settle_allocator
settle_allocator(os.environ)
import torch
before = resident_bytes()
kept = []
for _ in range(60):
    # large blocks, each given back, and a small one in between that stays: holes in a heap
    large = [torch.ones(1_000_000) for _ in range(4)]
    kept.append(torch.ones(16_000))
    del large
print(resident_bytes() - before)
"""


@linux
@pytest.mark.slow
def test_settled_memory_follows_what_is_held() -> None:
    # 60 blocks of 64 kB stay (4 MB), 16 MB are held for a moment each time.
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40 * MIB


def test_a_setting_of_the_user_is_kept() -> None:
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    settle_allocator(environment)
    assert environment == {"MALLOC_MMAP_THRESHOLD_": "65536"}


STEPS = """
import os, resource, sys
from sftprep.model.footprint import keep_freed, settle_allocator
if sys.argv[1] == "kept":
    settle_allocator(os.environ)
    keep_freed(True)
import torch
def step():
    # as a training step: many tensors are held for its length and given back at its end
    return sum(one.sum() for one in [torch.ones(1_000_000) for _ in range(20)])
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@linux
def test_kept_memory_lets_steps_use_the_pages_of_the_step_before() -> None:
    # 10 steps of 80 MB: 200,000 pages of 4 kB when each is made anew
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("kept", "plain")
    }
    assert faults["plain"] > 3 * faults["kept"]
